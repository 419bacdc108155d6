/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/serve/http/http_bed.h.
 */
#include "tests/unit/serve/http/http_bed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "arch/vm.h"
#include "serve/host/lambda.h"
#include "serve/http/address.h"
#include "tests/unit/arch/own_time.h"
#include "tests/unit/descriptors.h"

#define STEPS_MAX 100000u

/* --- The handler: says the request back --- */

static void bed_print(FILE *out, const char *name, const struct http_text *text)
{
	fprintf(out, "%s(%.*s)\n", name, (int)text->len, text->data ? text->data : "");
}

static void bed_say_back(struct bed *bed, struct http_conn *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (bed->answer_len) {
		text = calloc(1, bed->answer_len);
		http_respond(c, 200, "", text, bed->answer_len);
		free(text);
		return;
	}
	out = open_memstream(&text, &len);
	fprintf(out, "%s\n", http_method_str((enum http_method)c->parser.method));
	bed_print(out, "target", &c->target);
	for (unsigned i = 0; i < c->header_count; i++) {
		/* What all have. */
		if (http_is(&c->headers[i].name, "Host") && http_is(&c->headers[i].value, "h"))
			continue;
		bed_print(out, "name", &c->headers[i].name);
		bed_print(out, "value", &c->headers[i].value);
	}
	fprintf(out, "body %zu\n", c->body.len);
	if (c->body.len)
		fwrite(c->body.data, 1, c->body.len, out);
	fclose(out);
	http_respond(c, 200, "X-Bed: yes\r\n", text, len);
	free(text);
}

static void bed_answer_oldest(struct bed *bed)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	struct http_conn *c = bed->waiting[0];

	bed->deepest = bed->deepest && bed->deepest < here ? bed->deepest : here;
	bed->highest = bed->highest > here ? bed->highest : here;
	memmove(bed->waiting, bed->waiting + 1, --bed->waiting_count * sizeof(c));
	bed_say_back(bed, c);
}

static void bed_request(void *opaque, struct http_conn *c)
{
	struct lambda lambda = { 0 };
	struct bed *bed = opaque;

	bed->requests++;
	if (c->refuse) {
		bed->refused++;
		lambda_request(&lambda, c);
	} else if (bed->later) {
		assert_true(bed->waiting_count < BED_LATER_MAX);
		bed->waiting[bed->waiting_count++] = c;
		if (bed->chain)
			bed_answer_oldest(bed);
	} else {
		bed_say_back(bed, c);
	}
}

static void bed_gone(void *opaque, struct http_conn *c)
{
	struct bed *bed = opaque;
	unsigned i = 0;

	while (i < bed->waiting_count && bed->waiting[i] != c)
		i++;
	assert_true(i < bed->waiting_count);
	bed->waiting[i] = bed->waiting[--bed->waiting_count];
	bed->gone++;
}

void bed_answer(struct bed *bed)
{
	struct http_conn *waiting[BED_LATER_MAX];
	unsigned count = bed->waiting_count;

	memcpy(waiting, bed->waiting, sizeof(waiting));
	bed->waiting_count = 0; /* answering may bring the next request */
	while (count)
		bed_say_back(bed, waiting[--count]);
	bed_step(bed);
}

/* --- The server --- */

struct bed *bed_open(void)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	bed->descriptors = descriptors_open();
	pthread_mutex_init(&bed->lock, NULL);
	loop_init(&bed->loop);
	assert_int_equal(timers_reserve(&bed->timers, HTTP_CONNECTIONS_MAX), 0);
	bed->handler =
		(struct http_handler){ .request = bed_request, .gone = bed_gone, .opaque = bed };
	bed->server = calloc(1, sizeof(*bed->server));
	assert_int_equal(http_init(bed->server, &bed->loop, &bed->timers, &bed->handler), 0);
	return bed;
}

void bed_close(struct bed *bed)
{
	http_fini(bed->server);
	assert_int_equal(bed->server->count, 0);
	assert_int_equal(bed->server->held_bytes, 0);
	assert_int_equal(bed->timers.count, 0);
	assert_int_equal(bed->waiting_count, 0);
	loop_fini(&bed->loop);
	timers_fini(&bed->timers);
	assert_int_equal(descriptors_open(), bed->descriptors);
	free(bed->server);
	free(bed);
}

void bed_step(struct bed *bed)
{
	unsigned steps = 0;

	while (bed->loop.epoll_fd >= 0 && loop_step(&bed->loop, &bed->lock, 0) > 0)
		if (++steps > STEPS_MAX)
			fail_msg("the loop finds no rest");
	timers_run(&bed->timers, own_time_us);
}

void bed_advance(struct bed *bed, uint64_t ms)
{
	own_time_us += ms * 1000;
	bed_step(bed);
}

/* --- Clients --- */

static struct client client_new(struct bed *bed, int fd)
{
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return (struct client){ .bed = bed, .fd = fd };
}

struct client client_open(struct bed *bed)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	http_accept_one(bed->server, pair[1]);
	return client_new(bed, pair[0]);
}

struct client client_connect(struct bed *bed, const char *path)
{
	return client_new(bed, unix_path_connect(path, true));
}

struct client client_connect_tcp(struct bed *bed, const char *address)
{
	struct client c = client_new(bed, address_connect(address));

	bed_step(bed);
	return c;
}

/* Takes what there is. */
static void client_take(struct client *c)
{
	ssize_t n;

	do {
		if (c->in_size - c->in_len < 65536) {
			c->in_size = 2 * c->in_size + 65536;
			c->in = realloc(c->in, c->in_size);
		}
		n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len - 1, 0);
		c->in_len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	c->in[c->in_len] = '\0';
	c->reset |= n < 0 && errno != EAGAIN;
	c->ended |= n == 0 || c->reset;
}

void client_receive(struct client *c)
{
	size_t before;

	do {
		before = c->in_len;
		bed_step(c->bed);
		client_take(c);
	} while (c->in_len > before);
}

size_t client_send(struct client *c, const void *data, size_t len)
{
	size_t at = 0;
	unsigned idle = 0;

	while (at < len && idle < 2) {
		ssize_t n = send(c->fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			break;
		at += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		if (c->silent)
			bed_step(c->bed);
		else
			client_receive(c);
	}
	return at;
}

void client_say(struct client *c, const char *text)
{
	client_send(c, text, strlen(text));
}

void client_forget(struct client *c)
{
	c->in_len = 0;
	if (c->in)
		c->in[0] = '\0';
}

void client_close(struct client *c)
{
	close(c->fd);
	free(c->in);
	c->in = NULL;
	bed_step(c->bed);
}

/* --- Answers --- */

/* An answer's end in what came, from `at`; its parts. False: it is not whole. */
static bool client_parse(const struct client *c, size_t at, struct http_text *head,
			 struct http_text *body, size_t *end)
{
	const char *start = c->in + at, *stop, *length;
	size_t len = 0;

	if (at >= c->in_len || strncmp(start, "HTTP/1.1 ", 9) != 0)
		return false;
	stop = strstr(start, "\r\n\r\n");
	if (!stop)
		return false;
	*head = (struct http_text){ start, (size_t)(stop + 2 - start) };
	length = memmem(start, head->len, "\r\nContent-Length: ", 18);
	if (length)
		len = strtoul(length + 18, NULL, 10);
	*body = (struct http_text){ stop + 4, len };
	if ((size_t)(stop + 4 - c->in) + len > c->in_len)
		return false;
	*end = (size_t)(stop + 4 - c->in) + len;
	return true;
}

/* The n-th answer; how many there are for n UINT_MAX. */
static unsigned client_find(const struct client *c, unsigned n, struct http_text *head,
			    struct http_text *body)
{
	unsigned count = 0;
	size_t at = 0;

	while (client_parse(c, at, head, body, &at)) {
		if (count++ == n)
			return count;
	}
	if (at != c->in_len)
		fail_msg("not an answer: %.200s", c->in + at);
	return count;
}

unsigned client_answers(const struct client *c)
{
	struct http_text head, body;

	return client_find(c, ~0u, &head, &body);
}

unsigned client_status(const struct client *c, unsigned n)
{
	struct http_text head, body;

	if (client_find(c, n, &head, &body) != n + 1)
		fail_msg("there is no answer %u", n);
	return (unsigned)strtoul(head.data + 9, NULL, 10);
}

struct http_text client_body(const struct client *c, unsigned n)
{
	struct http_text head, body;

	if (client_find(c, n, &head, &body) != n + 1)
		fail_msg("there is no answer %u", n);
	return body;
}

bool client_has(const struct client *c, unsigned n, const char *line)
{
	struct http_text head, body;
	char text[256];

	if (client_find(c, n, &head, &body) != n + 1)
		fail_msg("there is no answer %u", n);
	snprintf(text, sizeof(text), "\r\n%s\r\n", line);
	return memmem(head.data, head.len, text, strlen(text)) != NULL;
}
