/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of serve/http/http.c and serve/http/server.c: bytes, headers, bodies, connections, descriptors and
 * time, what a client over them is told, and that those within them are served.
 *
 * wrap: monotonic_us
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/unix_path.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/serve/http/http_bed.h"

#define POST "POST / HTTP/1.1\r\nHost: h\r\n"
#define GET  "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

static struct bed *bed;
static char path[64];
static int listen_fd;

static int setup(void **state)
{
	(void)state;
	bed = bed_open();
	listen_fd = -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (listen_fd >= 0) {
		close(listen_fd);
		unlink(path);
	}
	bed_close(bed);
	return 0;
}

/* A refusal is the last answer, says its name and why, and ends the connection. */
static void check_refused(struct client *c, unsigned n, unsigned status, const char *type,
			  const char *sentence)
{
	char line[128];

	client_receive(c);
	assert_int_equal(client_answers(c), n + 1);
	assert_int_equal(client_status(c, n), status);
	snprintf(line, sizeof(line), "x-amzn-ErrorType: %s", type);
	assert_true(client_has(c, n, line));
	assert_true(client_has(c, n, "Connection: close"));
	assert_true(client_has(c, n, "Content-Type: application/json"));
	assert_non_null(strstr(client_body(c, n).data, sentence));
	assert_true(c->ended);
	client_close(c);
}

/* --- Heads --- */

/* A request whose head has that many bytes, in the target or in a header. Owned by the caller. */
static char *make_head(size_t len, bool in_target)
{
	static const char *const before[] = { "GET / HTTP/1.1\r\nHost: h\r\nLong: ", "GET /" };
	static const char *const after[] = { "\r\n\r\n", " HTTP/1.1\r\nHost: h\r\n\r\n" };
	size_t first = strlen(before[in_target]), last = strlen(after[in_target]);
	char *text = malloc(len + 1);

	memset(text, 'x', len);
	memcpy(text, before[in_target], first);
	memcpy(text + len - last, after[in_target], last + 1);
	return text;
}

static void test_head_bytes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct client c = client_open(bed);
		char *fits = make_head(HTTP_IN_MAX, i & 1);
		char *over = make_head(HTTP_IN_MAX + 1 + i / 2 * 100000, i & 1);

		client_say(&c, fits);
		client_say(&c, fits);
		client_say(&c, over);
		assert_int_equal(client_status(&c, 0), 200);
		assert_int_equal(client_status(&c, 1), 200);
		check_refused(&c, 2, 431, "RequestHeaderFieldsTooLargeException", "16 KiB");
		free(fits);
		free(over);
	}
}

/* And a Host. */
static void say_headers(struct client *c, unsigned count)
{
	char *text = malloc(count * 8 + 64), *at = text;

	at += sprintf(at, "GET / HTTP/1.1\r\nHost: h\r\n");
	for (unsigned i = 0; i < count; i++)
		at += sprintf(at, "h:%u\r\n", i % 100);
	sprintf(at, "\r\n");
	client_say(c, text);
	free(text);
}

static void test_header_count(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	say_headers(&c, HTTP_HEADERS_MAX - 1);
	say_headers(&c, HTTP_HEADERS_MAX - 1);
	assert_int_equal(client_answers(&c), 2);
	assert_int_equal(client_status(&c, 1), 200);
	say_headers(&c, HTTP_HEADERS_MAX);
	check_refused(&c, 2, 431, "RequestHeaderFieldsTooLargeException", "more than 64");
}

/* --- Bodies --- */

static void say_body(struct client *c, size_t len)
{
	char *data = calloc(1, len);

	client_send(c, data, len);
	free(data);
}

/* The client may send all of what is too large: it is read, so that the answer reaches it. */
static void test_body_too_large(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, POST "Content-Length: 6291457\r\n\r\n");
	say_body(&c, HTTP_BODY_MAX);
	assert_int_equal(client_answers(&c), 0);
	assert_int_equal(bed->server->held_bytes, 0);
	say_body(&c, 1);
	assert_false(c.reset);
	check_refused(&c, 0, 413, "RequestTooLargeException", "larger than 6291456 bytes");
}

static void test_chunks_too_large(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, POST "Transfer-Encoding: chunked\r\n\r\n600000\r\n");
	say_body(&c, HTTP_BODY_MAX);
	client_say(&c, "\r\n1\r\nx\r\n");
	assert_int_equal(client_answers(&c), 0);
	client_say(&c, "0\r\n\r\n");
	check_refused(&c, 0, 413, "RequestTooLargeException", "larger than 6291456 bytes");
}

/* Beyond what is read to be polite. */
static void test_body_beyond_all(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, POST "Content-Length: 67108865\r\n\r\n");
	check_refused(&c, 0, 413, "RequestTooLargeException", "larger");
	c = client_open(bed);
	client_say(&c, POST "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n");
	for (unsigned i = 0; i < 64 + 6; i++)
		say_body(&c, 1 << 20);
	assert_int_equal(client_answers(&c), 0);
	say_body(&c, 100000);
	check_refused(&c, 0, 413, "RequestTooLargeException", "larger");
	assert_int_equal(bed->server->held_bytes, 0);
}

/* All that is held together: the oldest that is not whole goes, and when none is left the new one. */
static void test_bodies_memory(void **state)
{
	struct client c = client_open(bed), other = client_open(bed), third = client_open(bed);
	size_t before;

	(void)state;
	client_say(&other, POST "Content-Length: 1000000\r\n\r\n");
	say_body(&other, 999999);
	client_say(&third, POST "Content-Length: 100000\r\n\r\n");
	say_body(&third, 99999);
	before = bed->server->held_bytes;
	assert_in_range(before, 1099998 - 2 * HTTP_IN_MAX, 4 * 1099998);
	bed->server->held_bytes = HTTP_HELD_MAX;
	client_say(&c, POST "Content-Length: 300000\r\n\r\n");
	say_body(&c, 300000);
	assert_int_equal(client_status(&c, 0), 200);
	client_receive(&other);
	assert_true(other.ended && other.in_len == 0);
	say_body(&third, 1);
	assert_int_equal(client_status(&third, 0), 200);
	bed->server->held_bytes = HTTP_HELD_MAX;
	client_say(&c, POST "Content-Length: 300000\r\n\r\n");
	say_body(&c, 300000);
	check_refused(&c, 1, 503, "ServiceUnavailableException",
		      "no memory for the request's payload");
	client_close(&other);
	client_close(&third);
	bed->server->held_bytes = 0;
}

/* --- Time --- */

static void test_idle(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	bed_advance(bed, HTTP_IDLE_MS - 1);
	client_say(&c, GET);
	assert_int_equal(client_answers(&c), 1);
	bed_advance(bed, HTTP_IDLE_MS - 1);
	client_receive(&c);
	assert_false(c.ended);
	bed_advance(bed, 1);
	client_receive(&c);
	assert_true(c.ended);
	assert_int_equal(client_answers(&c), 1);
	assert_int_equal(bed->server->broken, 0);
	client_close(&c);
}

/* It counts from the first byte, however many follow. */
static void test_slow_head(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	bed_advance(bed, HTTP_IDLE_MS - 1);
	client_say(&c, GET "G");
	for (unsigned i = 1; i < 10; i++) {
		bed_advance(bed, HTTP_HEAD_MS / 10);
		client_send(&c, &"ET / HTTP/1.1"[i - 1], 1);
	}
	assert_int_equal(client_answers(&c), 1);
	bed_advance(bed, HTTP_HEAD_MS / 10 - 1);
	client_receive(&c);
	assert_false(c.ended);
	bed_advance(bed, 1);
	check_refused(&c, 1, 408, "RequestTimeoutException", "did not come in time");
}

/* Of a request that began to come while the one before was answered, from then on. */
static void test_slow_second_head(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	bed->later = true;
	client_say(&c, GET "GET /");
	bed_advance(bed, 10 * HTTP_IDLE_MS); /* what is handled has no time-out here */
	assert_int_equal(bed->waiting_count, 1);
	bed_answer(bed);
	bed_advance(bed, HTTP_HEAD_MS - 1);
	client_receive(&c);
	assert_false(c.ended);
	bed_advance(bed, 1);
	check_refused(&c, 1, 408, "RequestTimeoutException", "did not come in time");
}

static void test_slow_body(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, POST "Content-Length: 100000\r\n");
	bed_advance(bed, HTTP_HEAD_MS - 1);
	client_say(&c, "\r\n");
	for (unsigned i = 0; i < 10; i++) {
		say_body(&c, 9000);
		bed_advance(bed, HTTP_BODY_MS / 10 - (i == 9));
	}
	client_receive(&c);
	assert_false(c.ended);
	bed_advance(bed, 1);
	check_refused(&c, 0, 408, "RequestTimeoutException", "did not come in time");
	assert_int_equal(bed->server->held_bytes, 0);
}

/* An answer that is not read ends with its connection, and in the meantime costs nobody anything. */
static void test_slow_reader(void **state)
{
	struct client c = client_open(bed), other = client_open(bed);

	(void)state;
	bed->answer_len = 8 << 20;
	c.silent = true;
	client_say(&c, GET);
	bed_step(bed);
	bed_advance(bed, HTTP_WRITE_MS - 1);
	assert_int_equal(bed->server->count, 2);
	client_say(&other, GET);
	client_receive(&other);
	assert_int_equal(client_answers(&other), 1);
	bed_advance(bed, 1);
	assert_int_equal(bed->server->count, 1);
	assert_int_equal(bed->server->broken, 1);
	client_close(&c);
	client_close(&other);
}

/* --- Connections --- */

static void begin_listening(void)
{
	snprintf(path, sizeof(path), "/tmp/virga-test-http.%d", (int)getpid());
	listen_fd = unix_path_listen(path);
	assert_true(listen_fd >= 0);
	assert_int_equal(http_listen(bed->server, listen_fd), 0);
}

static void close_all(struct client *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		client_close(&list[i]);
}

/* The one that has idled longest goes for a new one. */
static void test_connections(void **state)
{
	struct client list[HTTP_CONNECTIONS_MAX + 2];

	(void)state;
	begin_listening();
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		list[i] = client_connect(bed, path);
		bed_step(bed);
	}
	assert_int_equal(bed->server->count, HTTP_CONNECTIONS_MAX);
	client_say(&list[0], GET);
	client_say(&list[1], "G");
	for (unsigned i = 0; i < 2; i++) {
		list[HTTP_CONNECTIONS_MAX + i] = client_connect(bed, path);
		client_say(&list[HTTP_CONNECTIONS_MAX + i], GET);
		assert_int_equal(client_status(&list[HTTP_CONNECTIONS_MAX + i], 0), 200);
	}
	assert_int_equal(bed->server->count, HTTP_CONNECTIONS_MAX);
	assert_int_equal(bed->server->turned_away, 0);
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX + 2; i++) {
		client_receive(&list[i]);
		assert_int_equal(list[i].ended, i == 2 || i == 3);
	}
	close_all(list, HTTP_CONNECTIONS_MAX + 2);
	assert_int_equal(bed->server->count, 0);
}

static void check_turned_away(struct client *c)
{
	client_receive(c);
	assert_int_equal(client_status(c, 0), 503);
	assert_null(strstr(c->in, "Retry-After"));
	assert_true(client_has(c, 0, "Connection: close"));
	assert_true(c->ended);
	client_close(c);
}

/* Nobody idles: the one whose request has been on its way for longest goes. */
static void test_connections_slow(void **state)
{
	struct client list[HTTP_CONNECTIONS_MAX + 1];

	(void)state;
	begin_listening();
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		list[i] = client_connect(bed, path);
		client_say(&list[i], "GET");
	}
	list[HTTP_CONNECTIONS_MAX] = client_connect(bed, path);
	client_say(&list[HTTP_CONNECTIONS_MAX], GET);
	assert_int_equal(client_status(&list[HTTP_CONNECTIONS_MAX], 0), 200);
	assert_int_equal(bed->server->turned_away, 0);
	assert_int_equal(bed->server->broken, 1);
	client_receive(&list[0]);
	assert_true(list[0].ended);
	close_all(list, HTTP_CONNECTIONS_MAX + 1);
}

/* All are being answered: a new one is told at once. */
static void test_connections_busy(void **state)
{
	struct client list[HTTP_CONNECTIONS_MAX], more;

	(void)state;
	begin_listening();
	bed->later = true;
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		list[i] = client_connect(bed, path);
		client_say(&list[i], GET);
	}
	assert_int_equal(bed->waiting_count, HTTP_CONNECTIONS_MAX);
	for (unsigned i = 1; i <= 3; i++) {
		more = client_connect(bed, path);
		check_turned_away(&more);
		assert_int_equal(bed->server->turned_away, i);
	}
	client_close(&list[7]);
	assert_int_equal(bed->gone, 1);
	list[7] = client_connect(bed, path);
	client_say(&list[7], GET);
	bed_answer(bed);
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		client_receive(&list[i]);
		assert_int_equal(client_status(&list[i], 0), 200);
	}
	close_all(list, HTTP_CONNECTIONS_MAX);
}

/* The process has no descriptor left: the same, and later it goes on. */
static void test_descriptors(void **state)
{
	struct client first, more[20];
	struct rlimit old, limit;

	(void)state;
	begin_listening();
	first = client_connect(bed, path);
	client_say(&first, GET);
	assert_int_equal(client_answers(&first), 1);
	for (unsigned i = 0; i < 20; i++)
		more[i] = client_connect(bed, path);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)more[19].fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	bed_step(bed);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	for (unsigned i = 0; i < 20; i++)
		check_turned_away(&more[i]);
	assert_int_equal(bed->server->turned_away, 20);
	client_say(&first, GET);
	assert_int_equal(client_answers(&first), 2);
	more[0] = client_connect(bed, path);
	client_say(&more[0], GET);
	assert_int_equal(client_status(&more[0], 0), 200);
	client_close(&first);
	client_close(&more[0]);
}

/* --- Draining --- */

static void test_drain(void **state)
{
	struct client idle, half, handled, unread, late;

	(void)state;
	begin_listening();
	idle = client_connect(bed, path);
	half = client_connect(bed, path);
	handled = client_connect(bed, path);
	bed->later = true;
	client_say(&handled, GET);
	client_say(&half, "GET /half HTTP/1.1\r\nHost: h\r\n");
	unread = client_connect(bed, path);
	assert_int_equal(send(unread.fd, GET, strlen(GET), MSG_NOSIGNAL), strlen(GET));
	bed->later = false;
	http_drain(bed->server);
	assert_int_equal(bed->server->count, 3);
	client_receive(&idle);
	client_receive(&unread);
	assert_true(idle.ended && unread.ended);
	assert_int_equal(client_status(&unread, 0), 200);
	client_close(&unread);
	assert_int_equal(bed->server->count, 2);
	bed->later = true;
	client_say(&half, "\r\n");
	bed_answer(bed);
	client_receive(&half);
	client_receive(&handled);
	for (unsigned i = 0; i < 2; i++) {
		struct client *c = i ? &half : &handled;

		assert_int_equal(client_status(c, 0), 200);
		assert_true(client_has(c, 0, "Connection: close"));
		assert_true(c->ended);
	}
	assert_int_equal(bed->server->count, 0);
	/* Nobody accepts by now; what becomes of the socket is its owner's to say. */
	late = client_connect(bed, path);
	client_say(&late, GET);
	assert_int_equal(client_answers(&late), 0);
	assert_false(late.ended);
	client_close(&idle);
	client_close(&half);
	client_close(&handled);
	client_close(&late);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_head_bytes),
		TEST(test_header_count),
		TEST(test_body_too_large),
		TEST(test_chunks_too_large),
		TEST(test_body_beyond_all),
		TEST(test_bodies_memory),
		TEST(test_idle),
		TEST(test_slow_head),
		TEST(test_slow_second_head),
		TEST(test_slow_body),
		TEST(test_slow_reader),
		TEST(test_connections),
		TEST(test_connections_slow),
		TEST(test_connections_busy),
		TEST(test_descriptors),
		TEST(test_drain),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}
