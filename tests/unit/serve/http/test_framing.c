/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/http/framing.c under serve/http/request.c: what no list of samples holds. The samples are in
 * tests/unit/serve/http/test_http.c.
 *
 * wrap: monotonic_us
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/serve/http/http_bed.h"

#define INVOKE "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\n"
#define CHUNKS INVOKE "Transfer-Encoding: chunked\r\n\r\n"

static struct bed *bed;

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

/* A byte that is none of a line, anywhere but in a chunk's data, is found. */
static void test_control_bytes(void **state)
{
	static const char text[] = INVOKE "A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
					  "2;a=\"b\"\r\n##\r\n0\r\nC: d\r\n\r\n";
	const size_t len = sizeof(text) - 1, data = (size_t)(strchr(text, '#') - text);
	/* All but the tabulator, which a value may hold. */
	static const char bytes[] =
		"\0\x01\x02\x03\x04\x05\x06\a\b\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14"
		"\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f";
	char spoilt[sizeof(text)];

	(void)state;
	for (size_t at = 0; at < len; at++)
		for (unsigned i = 0; i < sizeof(bytes) - 1; i++) {
			struct client c;

			if (at >= data && at <= data + 2)
				continue;
			c = client_open(bed);
			memcpy(spoilt, text, at);
			spoilt[at] = bytes[i];
			memcpy(spoilt + at + 1, text + at, len - at);
			client_send(&c, spoilt, len + 1);
			/* Of two equal ones the second may be that behind the request. */
			if (!client_answers(&c) || client_status(&c, client_answers(&c) - 1) != 400)
				fail_msg("byte %d at %zu of\n%s\nis answered %s", bytes[i], at,
					 text, c.in);
			client_close(&c);
		}
}

/* Chunks' lines and trailers have an end, however slowly they come. */
static void test_long_lines(void **state)
{
	static const char *const before[] = { CHUNKS "1;", CHUNKS "1;a=\"", CHUNKS "0\r\nA: " };
	char text[2 * FRAMING_LINES_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
		for (unsigned extra = 0; extra < 2; extra++) {
			struct client c = client_open(bed);
			size_t head = strlen(CHUNKS), len = head + FRAMING_LINES_MAX + extra;

			memset(text, 'x', sizeof(text));
			memcpy(text, before[i], strlen(before[i]));
			client_send(&c, text, len);
			assert_int_equal(client_answers(&c), extra);
			if (extra)
				assert_int_equal(client_status(&c, 0), 400);
			client_close(&c);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_control_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_lines, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
