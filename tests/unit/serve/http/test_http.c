/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/http/http.c and serve/http/request.c: what a request is does not depend on how its bytes come, one
 * follows the other on a connection, and what is none is refused.
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

#include "tests/unit/seed.h"
#include "tests/unit/serve/http/http_bed.h"

#define INVOKE "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\n"
#define CHUNKS INVOKE "Transfer-Encoding: chunked\r\n\r\n"

static struct bed *bed;
static struct seed seed;

static int setup(void **state)
{
	(void)state;
	bed = bed_open();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bed_close(bed);
	return 0;
}

/* --- However the bytes come --- */

/* What must be the same: all but dates, ids and the word that a body may come. */
static char *transcript(const struct client *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	char *text = calloc(1, c->in_len + 64), *out = text;

	for (size_t at = 0; at < c->in_len;) {
		const char *line = c->in + at, *end = memchr(line, '\n', c->in_len - at);
		size_t len = end ? (size_t)(end + 1 - line) : c->in_len - at;

		if (strncmp(line, go_on, sizeof(go_on) - 1) == 0)
			len = sizeof(go_on) - 1;
		else if (strncmp(line, "Date: ", 6) != 0 &&
			 strncmp(line, "x-amzn-RequestId", 16) != 0)
			out = mempcpy(out, line, len);
		at += len;
	}
	sprintf(out, "%s", c->ended ? "(end)" : "(open)");
	return text;
}

/* Sends text in `count` pieces that end at cuts[]. */
static char *converse(const char *text, size_t len, const size_t *cuts, unsigned count)
{
	struct client c = client_open(bed);
	char *out;
	size_t at = 0;

	for (unsigned i = 0; i <= count; i++) {
		size_t end = i < count ? cuts[i] : len;

		if (end > at)
			client_send(&c, text + at, end - at);
		at = end;
	}
	client_receive(&c);
	out = transcript(&c);
	client_close(&c);
	assert_int_equal(bed->server->count, 0);
	return out;
}

static int by_size(const void *a, const void *b)
{
	const size_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void check_same(const char *text, const char *wanted, char *got, const size_t *cuts,
		       unsigned count)
{
	if (strcmp(wanted, got) != 0)
		fail_msg("cut %u times, first at %zu:\n%s\nwas answered\n%s\nand not\n%s", count,
			 cuts[0], text, got, wanted);
	free(got);
}

/* At every byte, and at random in up to eight places. wanted: in what is answered. */
static void check_cuts(const char *text, const char *wanted)
{
	size_t len = strlen(text), cuts[8];
	char *whole = converse(text, len, NULL, 0);

	if (!strstr(whole, wanted))
		fail_msg("'%s' is not in the answer to\n%s:\n%s", wanted, text, whole);
	for (cuts[0] = 1; cuts[0] < len; cuts[0]++)
		check_same(text, whole, converse(text, len, cuts, 1), cuts, 1);
	for (unsigned n = 0; n < 100; n++) {
		unsigned count = 2 + (unsigned)seed_below(&seed, 7);

		for (unsigned i = 0; i < count; i++)
			cuts[i] = seed_below(&seed, len);
		qsort(cuts, count, sizeof(cuts[0]), by_size);
		check_same(text, whole, converse(text, len, cuts, count), cuts, count);
	}
	free(whole);
}

/* One byte at a time. */
static void check_crawl(const char *text)
{
	size_t len = strlen(text), *cuts = calloc(len, sizeof(*cuts));
	char *whole = converse(text, len, NULL, 0);

	for (size_t i = 0; i < len; i++)
		cuts[i] = i;
	check_same(text, whole, converse(text, len, cuts, (unsigned)len), cuts, (unsigned)len);
	free(whole);
	free(cuts);
}

struct sample {
	const char *text, *answer;
};

static void check_samples(const struct sample *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		check_cuts(samples[i].text, samples[i].answer);
		check_crawl(samples[i].text);
	}
}

/* clang-format off */
static const struct sample good[] = {
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET\ntarget(/)\nbody 0\n(open)" },
	{ "GET /a?b=c&d=%20 HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nX-Blank:  a  b \r\n\r\n",
	  "target(/a?b=c&d=%20)\nname(X-Empty)\nvalue()\nname(X-Blank)\n"
	  "value(a  b)\nbody 0\n(open)" },
	{ INVOKE "Content-Length: 11\r\n\r\nhello there", "body 11\nhello there(open)" },
	{ INVOKE "Content-Length: 0\r\n\r\n", "body 0\n(open)" },
	{ INVOKE "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody", "body 4\nbody(open)" },
	{ INVOKE "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n there\r\n0\r\n\r\n",
	  "body 11\nhello there(open)" },
	{ INVOKE "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "body 0\n(open)" },
	{ INVOKE "Transfer-Encoding: \t Chunked \r\n\r\n00A;a;b=c;d=\"e \\\"\\\\;\t\xc3\"\r\n0123456789\r\n"
	  "000;x\r\nTrailer: \t\r\n\r\n", "body 10\n0123456789(open)" },
	{ INVOKE "Content-Length: 002 \r\n\r\nab", "body 2\nab(open)" },
	{ "PROPFIND /x HTTP/1.1\r\nHost: h\r\n\r\n", "PROPFIND\ntarget(/x)\n" },
	{ "GET / HTTP/1.1\r\nHost: [::1]:9001\r\nA:\xc3\xb6\r\n\r\n", "value(\xc3\xb6)\nbody 0\n(open)" },
	/* Fields behind the body are none of the request's headers (RFC 9110, 6.5.1). */
	{ INVOKE "Transfer-Encoding: chunked\r\nA: b\r\n\r\n1\r\nx\r\n0\r\nOrigin: http://e\r\n"
	  "Expect: 100-continue\r\n\r\n", "name(A)\nvalue(b)\nbody 1\nx(open)" },
	/* One behind the other. */
	{ "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n" INVOKE "Content-Length: 2\r\n\r\n/3"
	  "GET /4 HTTP/1.1\r\nHost: h\r\n\r\n" INVOKE "Transfer-Encoding: chunked\r\n\r\n2\r\n/5\r\n0\r\n\r\n"
	  "GET /6 HTTP/1.1\r\nHost: h\r\n\r\n", "target(/6)\nbody 0\n(open)" },
	{ "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	  "Connection: close\r\nX-Bed: yes\r\n\r\nGET\ntarget(/1)\nname(Connection)\nvalue(close)\n"
	  "body 0\n(end)" },
	{ "GET / HTTP/1.0\r\n\r\n", "body 0\n(end)" },
	/* Kept, and said to be. */
	{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
	  "Connection: keep-alive\r\nX-Bed: yes\r\n\r\nGET\ntarget(/)\n" },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	  "target(/2)\nbody 0\n(open)" },
	{ "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "target(/)\nbody 0\n(open)" },
	{ "GET http://h:1/a/b HTTP/1.1\r\nHost: h\r\n\r\n", "GET\ntarget(/a/b)\n" },
	{ "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE\ntarget(/x)\n" },
	/* Another protocol is offered and not taken. */
	{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	  "target(/2)\nbody 0\n(open)" },
};

static const struct sample bad[] = {
	{ "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n" },
	{ INVOKE "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 501 " },
	{ "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n" },
	{ "get / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "HELO x\r\n", "{\"Type\":\"User\",\"Message\":\"this is no HTTP/1.1 request with one Host\"}(end)" },
	{ "GET / HTTPS/1.1\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nName : value\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nA: b\x01\r\n\r\n", "HTTP/1.1 400 " },
	/* A value of more lines than one (RFC 9112, 5.2). */
	{ "GET / HTTP/1.1\r\nHost: h\r\nA: one\r\n two\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\n Host: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nA\t: b\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nA(: b\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\n\n", "HTTP/1.1 400 " },
	{ "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ " GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.10\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/01.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET /\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET /\xc3\xb6 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 " },
	{ "GET / HTTP/1.1\r\nHost: h\r\nA: b\rC: d\r\n\r\n", "HTTP/1.1 400 " },
	/* The beginning of TLS: at once, though no line ends. */
	{ "\x16\x03\x01\x02", "HTTP/1.1 400 " },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n" },
	{ "PRI ", "HTTP/1.1 505 HTTP Version Not Supported\r\n" },
	{ INVOKE "Content-Length: x\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: -1\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 1, 1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 18446744073709551617\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: +1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 1 1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 0x1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length:\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding:\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: identity\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "+1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "-1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS " 1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1 \r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1 ;a=b\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "0x1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1_\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1\r\nx\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1\r\nx0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;a=\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;=b\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;a=\"b\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;a=\"b\"c\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "1;a\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "00000000000000001\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "0\r\nA : b\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "0\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "0\r\nA: b\n\r\n", "HTTP/1.1 400 " },
	{ CHUNKS "0\r\nA: b\r\n\n", "HTTP/1.1 400 " },
	{ CHUNKS "0\r\n\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\n\r\nx\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", "HTTP/1.1 400 " },
	{ INVOKE "Transfer-Encoding: chunked, gzip\r\n\r\nx", "HTTP/1.1 400 " },
	{ "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n" },
	{ "GET / HTTP/1.1\r\nHost: h\r\n\r\nrubbish\r\n\r\n", "HTTP/1.1 400 " },
};
/* clang-format on */

static void test_good(void **state)
{
	(void)state;
	check_samples(good, sizeof(good) / sizeof(good[0]));
	assert_int_equal(bed->refused, 0);
}

static void test_bad(void **state)
{
	(void)state;
	check_samples(bad, sizeof(bad) / sizeof(bad[0]));
	assert_true(bed->refused > 0);
	assert_int_equal(bed->gone, 0);
}

/* What is refused ends the connection, says so, and has the error's name and sentence. */
static void test_refusal(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, "rubbish\r\n\r\n");
	assert_int_equal(client_answers(&c), 1);
	assert_true(client_has(&c, 0, "Connection: close"));
	assert_true(client_has(&c, 0, "x-amzn-ErrorType: BadRequestException"));
	assert_string_equal(
		client_body(&c, 0).data,
		"{\"Type\":\"User\",\"Message\":\"this is no HTTP/1.1 request with one Host\"}");
	assert_true(c.ended);
	client_close(&c);
}

/* --- Bodies of all sizes --- */

/* A body of that length, in the form of a request. Owned by the caller. */
static char *make_request(size_t len, bool chunked, size_t *total)
{
	char *text = malloc(len + len / 1000 * 16 + 512), *at = text;
	size_t left = len;

	at += chunked ? sprintf(at, INVOKE "Transfer-Encoding: chunked\r\n\r\n")
		      : sprintf(at, INVOKE "Content-Length: %zu\r\n\r\n", len);
	while (left) {
		size_t n = chunked ? 1 + seed_below(&seed, left < 70000 ? left : 70000) : left;

		at += chunked ? sprintf(at, "%zx\r\n", n) : 0;
		for (size_t i = 0; i < n; i++)
			at[i] = (char)('a' + (len - left + i) % 23);
		at += n;
		left -= n;
		at += chunked ? sprintf(at, "\r\n") : 0;
	}
	at += chunked ? sprintf(at, "0\r\nTrailer: abc\r\nOrigin: http://e\r\n\r\n") : 0;
	*total = (size_t)(at - text);
	return text;
}

static void check_echo(const struct client *c, unsigned n, size_t len)
{
	struct http_text body = client_body(c, n);
	const char *at = memmem(body.data, body.len, "\nbody ", 6);
	char *end;

	assert_int_equal(client_status(c, n), 200);
	assert_non_null(at);
	assert_null(memmem(body.data, (size_t)(at - body.data), "Trailer", 7));
	assert_int_equal(strtoul(at + 6, &end, 10), len);
	assert_int_equal(body.data + body.len - (end + 1), len);
	for (size_t i = 0; i < len; i++)
		if (end[1 + i] != (char)('a' + i % 23))
			fail_msg("byte %zu of a body of %zu is %c", i, len, end[1 + i]);
}

/* Two of them and a GET over one connection, in pieces of any size. */
static void check_body(size_t len, bool chunked)
{
	struct client c = client_open(bed);
	size_t total, at = 0, piece = 1 + seed_below(&seed, 30000);
	char *text = make_request(len, chunked, &total);

	for (unsigned n = 0; n < 2; n++) {
		for (at = 0; at < total; at += piece)
			client_send(&c, text + at, total - at < piece ? total - at : piece);
		client_receive(&c);
	}
	client_say(&c, "GET /end HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(client_answers(&c), 3);
	check_echo(&c, 0, len);
	check_echo(&c, 1, len);
	assert_false(c.ended);
	assert_int_equal(bed->server->held_bytes, 0);
	free(text);
	client_close(&c);
}

static void test_bodies(void **state)
{
	static const size_t sizes[] = {
		0,     1,     100,   16000,  16383,   16384,   16385,
		65535, 65536, 65537, 200000, 1000000, 6291455, HTTP_BODY_MAX
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		check_body(sizes[i], false);
		check_body(sizes[i], true);
	}
	for (size_t len = 16000; len < 16500; len += 7) /* around what the buffer holds */
		check_body(len, len & 1);
}

/* What came behind a long chunked body is either answered or the connection is said to end. */
static void test_behind_long_chunks(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 20; n++) {
		struct client c = client_open(bed);
		size_t len = 20000 + seed_below(&seed, 100000), total;
		char *text = make_request(len, true, &total);

		text = realloc(text, total + 64);
		total += (size_t)sprintf(text + total, "GET /end HTTP/1.1\r\nHost: h\r\n\r\n");
		client_send(&c, text, total);
		client_receive(&c);
		check_echo(&c, 0, len);
		if (client_answers(&c) == 2)
			assert_false(c.ended);
		else
			assert_true(client_has(&c, 0, "Connection: close") && c.ended);
		free(text);
		client_close(&c);
	}
}

/* --- Expect: 100-continue --- */

static void test_continue(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, INVOKE "Expect: 100-Continue\r\nContent-Length: 4\r\n");
	assert_int_equal(client_answers(&c), 0);
	client_say(&c, "\r\n");
	assert_int_equal(client_answers(&c), 1);
	assert_string_equal(c.in, "HTTP/1.1 100 Continue\r\n\r\n");
	client_say(&c, "bo");
	assert_int_equal(client_answers(&c), 1);
	client_say(&c, "dy");
	assert_int_equal(client_status(&c, 1), 200);
	/* Who did not wait needs no word; who has no body neither, nor HTTP/1.0. */
	client_forget(&c);
	client_say(&c, INVOKE "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nb");
	assert_int_equal(client_answers(&c), 0);
	client_say(&c, "ody");
	client_say(&c, INVOKE "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n");
	client_say(&c, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	assert_int_equal(client_answers(&c), 2);
	client_say(&c, "x");
	assert_int_equal(client_answers(&c), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(client_status(&c, i), 200);
	/* It is said once, also when what comes next is not yet of the body. */
	client_close(&c);
	c = client_open(bed);
	client_say(&c, INVOKE "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
	client_say(&c, "1\r");
	client_say(&c, "\n");
	assert_string_equal(c.in, "HTTP/1.1 100 Continue\r\n\r\n");
	client_say(&c, "x\r\n0\r\n\r\n");
	assert_int_equal(client_status(&c, 1), 200);
	client_close(&c);
}

/* A body that would be refused is not asked for. */
static void test_continue_too_large(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	client_say(&c, INVOKE "Expect: 100-continue\r\nContent-Length: 6291457\r\n\r\n");
	assert_int_equal(client_answers(&c), 1);
	assert_int_equal(client_status(&c, 0), 413);
	assert_true(c.ended);
	client_close(&c);
}

/* --- Answers --- */

/* The same headers as by GET and no body. */
static void test_head(void **state)
{
	struct client c = client_open(bed);
	char *end;

	(void)state;
	client_say(&c, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(strstr(c.in, "Content-Length: 22\r\n"));
	end = strstr(c.in, "\r\n\r\n");
	assert_non_null(end);
	assert_int_equal(end + 4 - c.in, c.in_len);
	client_forget(&c);
	client_say(&c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(client_answers(&c), 1);
	assert_int_equal(client_body(&c, 0).len, 21);
	client_close(&c);
}

/* Requests that came together are answered in their order, each when the one before is. */
static void test_order(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	bed->later = true;
	for (unsigned i = 0; i < 50; i++) {
		char text[64];

		sprintf(text, "GET /%u HTTP/1.1\r\nHost: h\r\n\r\n", i);
		client_say(&c, text);
	}
	for (unsigned i = 0; i < 50; i++) {
		char text[64];

		sprintf(text, "GET\ntarget(/%u)\nbody 0\n", i);
		assert_int_equal(bed->waiting_count, 1);
		bed_answer(bed);
		client_receive(&c);
		assert_int_equal(client_answers(&c), i + 1);
		assert_memory_equal(client_body(&c, i).data, text, strlen(text));
	}
	assert_int_equal(bed->waiting_count, 0);
	client_close(&c);
}

/* An answer that brings the next request, which brings the next answer: none inside another. */
static void test_chain(void **state)
{
	struct client list[100], last = client_open(bed);

	(void)state;
	bed->later = true;
	for (unsigned i = 0; i < 100; i++) {
		list[i] = client_open(bed);
		for (unsigned n = 0; n < 5; n++)
			client_say(&list[i], "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	}
	assert_int_equal(bed->waiting_count, 100);
	bed->chain = true;
	for (unsigned n = 0; n < 5; n++)
		client_say(&last, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(bed->requests, 505);
	assert_int_equal(bed->waiting_count, 100);
	bed_answer(bed);
	client_close(&last);
	for (unsigned i = 0; i < 100; i++)
		client_close(&list[i]);
	assert_true(bed->highest - bed->deepest < 4096);
}

/* More than the socket holds: the rest is kept, and the next request waits. */
static void test_large_answers(void **state)
{
	struct client c = client_open(bed);

	(void)state;
	bed->answer_len = 8 << 20;
	c.silent = true;
	client_say(&c, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
	client_say(&c, "GET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	assert_int_equal(bed->requests, 1);
	client_receive(&c);
	assert_int_equal(client_answers(&c), 3);
	assert_int_equal(bed->requests, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(client_body(&c, i).len, 8 << 20);
	assert_true(c.ended);
	client_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bodies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_behind_long_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_continue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_continue_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_head, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_answers, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	seed = seed_begin(4001);
	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
