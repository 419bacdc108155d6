/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/http/http.c and clients that do what they should not: hang up at any moment, say half, read nothing,
 * send anything. It costs their own connection and nothing is left.
 *
 * wrap: monotonic_us
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/http/address.h"
#include "tests/unit/seed.h"
#include "tests/unit/serve/http/http_bed.h"

#define GET          "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST         "POST / HTTP/1.1\r\nHost: h\r\n"
#define LARGE        (8u << 20)
#define GARBAGE      20000u /* rounds */
#define ALL_TIME_OUT (HTTP_IDLE_MS + HTTP_HEAD_MS + HTTP_BODY_MS + HTTP_WRITE_MS)

static struct bed *bed;
static struct seed seed;
static char address[ADDRESS_TEXT_MAX];
static int listen_fd;

static int setup(void **state)
{
	(void)state;
	bed = bed_open();
	listen_fd = address_listen("127.0.0.1:0", address);
	if (listen_fd < 0)
		return -1;
	return http_listen(bed->server, listen_fd);
}

static int teardown(void **state)
{
	(void)state;
	close(listen_fd);
	bed_close(bed);
	return 0;
}

/* By TCP or a unix socket, which tell differently of a client that is gone. */
static struct client open_any(bool tcp)
{
	return tcp ? client_connect_tcp(bed, address) : client_open(bed);
}

/* Gone, politely or by a reset. */
static void hang_up(struct client *c, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	client_close(c);
	assert_int_equal(bed->server->count, 0);
	assert_int_equal(bed->server->held_bytes, 0);
	assert_int_equal(bed->timers.count, 0);
}

/* --- Hanging up --- */

/* After any number of bytes of it. */
static void check_hang_up(const char *text, size_t len, size_t step)
{
	for (size_t at = 0; at < len; at += step) {
		for (unsigned how = 0; how < 3; how++) {
			uint64_t broken = bed->server->broken;
			struct client c = open_any(how > 0);

			client_send(&c, text, at);
			hang_up(&c, how == 2);
			assert_int_equal(bed->server->broken - broken, at > 0);
		}
	}
	assert_int_equal(bed->requests, 0);
	assert_int_equal(bed->gone, 0);
}

static void test_within_head(void **state)
{
	static const char text[] = "GET /some HTTP/1.1\r\nHost: h\r\n\r\n";

	(void)state;
	check_hang_up(text, sizeof(text) - 1, 1);
}

static void test_within_body(void **state)
{
	char *text = calloc(1, 200100);
	int head = sprintf(text, POST "Content-Length: 200000\r\n\r\n");

	(void)state;
	check_hang_up(text, (size_t)head + 200000, 9973);
	sprintf(text, POST "Transfer-Encoding: chunked\r\n\r\n30000\r\n");
	check_hang_up(text, 150000, 9973);
	free(text);
}

/* Its request waits: whoever handles it is told, once. By TCP only a reset says so. */
static void test_while_it_waits(void **state)
{
	(void)state;
	bed->later = true;
	for (unsigned reset = 0; reset < 2; reset++) {
		struct client c = open_any(reset), other = client_open(bed);

		client_say(&c, GET GET);
		client_say(&other, GET);
		assert_int_equal(bed->waiting_count, 2);
		client_close(&other);
		assert_int_equal(bed->gone, 2 * reset + 1);
		assert_int_equal(bed->waiting_count, 1);
		/* It may have half closed before. */
		shutdown(c.fd, SHUT_WR);
		bed_step(bed);
		assert_int_equal(bed->waiting_count, 1);
		hang_up(&c, reset);
		assert_int_equal(bed->gone, 2 * reset + 2);
		assert_int_equal(bed->waiting_count, 0);
	}
	assert_int_equal(bed->server->broken, 4);
}

/* A FIN may be of one that listens: its request is answered, and the answer finds nobody. */
static void test_closed_by_tcp(void **state)
{
	struct client c = open_any(true);

	(void)state;
	bed->later = true;
	client_say(&c, GET);
	client_close(&c);
	assert_int_equal(bed->gone, 0);
	assert_int_equal(bed->waiting_count, 1);
	bed_answer(bed);
	assert_int_equal(bed->server->count, 0);
}

/* In the same moment as it is answered: there is nobody, and nothing happens. */
static void test_before_the_answer(void **state)
{
	(void)state;
	bed->later = true;
	for (unsigned how = 0; how < 3; how++) {
		struct client c = open_any(how > 0);

		client_say(&c, GET);
		free(c.in);
		if (how == 2)
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
				   sizeof(struct linger));
		close(c.fd);
		bed_answer(bed);
		bed_advance(bed, HTTP_IDLE_MS);
		assert_int_equal(bed->server->count, 0);
	}
	assert_int_equal(bed->gone, 0);
}

static void test_while_it_is_answered(void **state)
{
	(void)state;
	bed->answer_len = LARGE;
	for (unsigned how = 0; how < 3; how++) {
		struct client c = open_any(how > 0);

		c.silent = true;
		client_say(&c, GET);
		assert_int_equal(bed->server->count, 1);
		hang_up(&c, how == 2);
		assert_int_equal(bed->server->broken, how + 1);
	}
	assert_int_equal(bed->gone, 0);
}

/* --- Half closed --- */

/* Who has said all may close that side, and gets what can be answered at once. */
static void test_half_closed(void **state)
{
	(void)state;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct client c = open_any(tcp);

		assert_int_equal(send(c.fd, GET GET, 2 * strlen(GET), 0), 2 * strlen(GET));
		shutdown(c.fd, SHUT_WR);
		client_receive(&c);
		assert_int_equal(client_answers(&c), 2);
		assert_true(c.ended);
		client_close(&c);
	}
	assert_int_equal(bed->server->broken, 0);
}

static void test_half_closed_large(void **state)
{
	(void)state;
	bed->answer_len = LARGE;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct client c = open_any(tcp);

		c.silent = true;
		client_say(&c, GET);
		shutdown(c.fd, SHUT_WR);
		bed_step(bed);
		client_receive(&c);
		assert_int_equal(client_answers(&c), 1);
		assert_int_equal(client_body(&c, 0).len, LARGE);
		assert_true(c.ended);
		client_close(&c);
	}
	assert_int_equal(bed->server->broken, 0);
}

/* So does one whose requests wait, however many they are and however long that is. */
static void test_half_closed_waiting(void **state)
{
	(void)state;
	bed->later = true;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct client c = open_any(tcp);

		client_say(&c, GET GET);
		client_say(&c, GET);
		shutdown(c.fd, SHUT_WR);
		for (unsigned i = 0; i < 3; i++) {
			client_receive(&c);
			assert_int_equal(client_answers(&c), i);
			assert_int_equal(bed->waiting_count, 1);
			assert_false(c.ended);
			bed_answer(bed);
		}
		client_receive(&c);
		assert_int_equal(client_answers(&c), 3);
		assert_true(c.ended);
		client_close(&c);
	}
	assert_int_equal(bed->gone, 0);
	assert_int_equal(bed->server->broken, 0);
}

/* And one that has not taken the first of two long ones when it closes its side. */
static void test_half_closed_taking(void **state)
{
	(void)state;
	bed->answer_len = LARGE;
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct client c = open_any(tcp);

		c.silent = true;
		client_say(&c, GET GET);
		shutdown(c.fd, SHUT_WR);
		bed_step(bed);
		client_receive(&c);
		assert_int_equal(client_answers(&c), 2);
		assert_true(c.ended);
		client_close(&c);
	}
	assert_int_equal(bed->server->broken, 0);
}

/* In the middle of a request. */
static void test_half_closed_early(void **state)
{
	static const char *const texts[] = { "GET /", POST "Content-Length: 5\r\n\r\nbod" };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct client c = open_any(i & 1);

		client_say(&c, texts[i / 2]);
		shutdown(c.fd, SHUT_WR);
		client_receive(&c);
		assert_true(c.ended);
		assert_int_equal(client_answers(&c), 0);
		client_close(&c);
	}
	assert_int_equal(bed->server->broken, 4);
	assert_int_equal(bed->requests, 0);
}

/* --- Slow ones among others --- */

/* Some that read nothing, some that say nothing, and one that is served all the while. */
static void test_others_are_served(void **state)
{
	struct client slow[60], one = client_open(bed);

	(void)state;
	bed->answer_len = LARGE / 8;
	for (unsigned i = 0; i < 60; i++) {
		slow[i] = open_any(i & 1);
		slow[i].silent = true;
		client_say(&slow[i], i % 3 ? GET : POST "Content-Length: 5\r\n\r\nbod");
	}
	for (unsigned i = 0; i < 50; i++) {
		client_forget(&one);
		client_say(&one, GET);
		client_receive(&one);
		assert_int_equal(client_answers(&one), 1);
	}
	for (unsigned i = 0; i < 60; i++) {
		client_receive(&slow[i]);
		assert_int_equal(client_answers(&slow[i]), i % 3 > 0);
		client_close(&slow[i]);
	}
	client_close(&one);
}

/* A reader of one byte at a time gets all of them. */
static void test_slow_reader(void **state)
{
	struct client c = client_open(bed);
	size_t len = 0;
	char byte;
	int size = 1;

	(void)state;
	setsockopt(bed->server->first->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	bed->answer_len = 50000;
	c.silent = true;
	client_say(&c, GET);
	for (unsigned idle = 0; idle < 2;) {
		ssize_t n = recv(c.fd, &byte, 1, 0);

		len += n > 0;
		idle = n > 0 ? 0 : idle + 1;
		if (n <= 0 || len % 1000 == 0)
			bed_step(bed);
	}
	assert_in_range(len, 50000, 50200);
	assert_int_equal(bed->server->count, 1);
	client_close(&c);
}

/* --- Anything --- */

static const char *const models[] = {
	GET,
	POST "Content-Length: 30\r\n\r\nabcdefghijklmnopqrstuvwxyz0123",
	POST
	"Transfer-Encoding: chunked\r\nA: b\r\n\r\n5\r\nabcde\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
	GET POST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" GET,
	"GET /2015-03-31/functions/f/invocations?Qualifier=1 HTTP/1.0\r\nConnection: keep-alive\r\n"
	"Origin: http://localhost\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n" GET,
};

/* Random bytes, or a request with some of them changed, left out, doubled. */
static size_t make_garbage(char *out, size_t size)
{
	const char *model = models[seed_below(&seed, sizeof(models) / sizeof(models[0]))];
	size_t len = strlen(model);

	if (seed_below(&seed, 4) == 0) {
		len = seed_below(&seed, size);
		seed_bytes(&seed, out, len);
		return len;
	}
	memcpy(out, model, len + 1);
	for (uint64_t n = seed_below(&seed, 6); n; n--) {
		size_t at = seed_below(&seed, len), run = 1 + seed_below(&seed, len - at);

		switch (seed_below(&seed, 4)) {
		case 0:
			out[at] = (char)seed_next(&seed);
			break;
		case 1:
			out[at] = "\r\n :0;/,-"[seed_below(&seed, 9)];
			break;
		case 2:
			memmove(out + at, out + at + run, len - at - run);
			len -= run < len ? run : 0;
			break;
		default:
			if (len + run < size) {
				memmove(out + at + run, out + at, len - at);
				len += run;
			}
		}
	}
	return len;
}

/* Every answer is a whole one and says that it went well or that the client was wrong. */
static void check_answers(const struct client *c, const char *text, size_t len)
{
	unsigned count = client_answers(c);

	for (unsigned i = 0; i < count; i++) {
		unsigned status = client_status(c, i);

		if (status != 200 && status != 100 && status != 501 && status != 505 &&
		    status / 100 != 4)
			fail_msg("status %u for %.*s", status, (int)len, text);
	}
}

/* In pieces of any length, perhaps with hang-ups and while others wait. */
static void garbage_round(unsigned round)
{
	struct client c = open_any(round % 16 == 0);
	char text[3000];
	size_t len = make_garbage(text, sizeof(text));

	bed->later = round % 3 == 0;
	for (size_t at = 0; at < len;) {
		size_t n = 1 + seed_below(&seed, len - at);

		client_send(&c, text + at, n);
		at += n;
		if (seed_below(&seed, 8) == 0)
			bed_answer(bed);
	}
	if (round % 5 == 0)
		shutdown(c.fd, SHUT_WR);
	if (round % 7 == 0) {
		client_close(&c);
		bed_answer(bed);
		return;
	}
	do {
		bed_answer(bed);
		client_receive(&c);
	} while (bed->waiting_count);
	bed_advance(bed, ALL_TIME_OUT);
	client_receive(&c);
	assert_true(c.ended);
	if (!memmem(text, len, "HEAD ", 5))
		check_answers(&c, text, len);
	client_close(&c);
}

static void test_garbage(void **state)
{
	(void)state;
	for (unsigned round = 0; round < GARBAGE; round++) {
		garbage_round(round);
		assert_int_equal(bed->server->count, 0);
		assert_int_equal(bed->server->held_bytes, 0);
		assert_int_equal(bed->timers.count, 0);
		assert_int_equal(bed->waiting_count, 0);
	}
	/* The garbage is of use: much of it is refused, much is not. */
	assert_in_range(bed->refused, GARBAGE / 4, GARBAGE);
	assert_in_range(bed->requests - bed->refused, GARBAGE / 4, 3 * GARBAGE);
}

/* Many at once, each with something else to say. */
static void test_garbage_together(void **state)
{
	struct client list[100];
	char text[3000];

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		bed->later = round & 1;
		for (unsigned i = 0; i < 100; i++)
			list[i] = open_any(i % 16 == 0);
		for (unsigned n = 0; n < 300; n++) {
			struct client *c = &list[seed_below(&seed, 100)];

			client_send(c, text, make_garbage(text, sizeof(text)));
			if (seed_below(&seed, 20) == 0)
				bed_answer(bed);
			if (seed_below(&seed, 50) == 0)
				bed_advance(bed, 1000);
		}
		for (unsigned i = 0; i < 100; i++)
			client_close(&list[i]);
		bed_answer(bed);
		bed_advance(bed, ALL_TIME_OUT);
		assert_int_equal(bed->server->count, 0);
		assert_int_equal(bed->waiting_count, 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_within_head),          TEST(test_within_body),
		TEST(test_while_it_waits),       TEST(test_before_the_answer),
		TEST(test_while_it_is_answered), TEST(test_closed_by_tcp),
		TEST(test_half_closed_taking),   TEST(test_half_closed),
		TEST(test_half_closed_large),    TEST(test_half_closed_waiting),
		TEST(test_half_closed_early),    TEST(test_others_are_served),
		TEST(test_slow_reader),          TEST(test_garbage),
		TEST(test_garbage_together),
	};

	signal(SIGPIPE, SIG_IGN);
	seed = seed_begin(4002);
	return cmocka_run_group_tests_name("http_clients", tests, NULL, NULL);
}
