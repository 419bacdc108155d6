/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes are JSON: the grammar's corners, and random texts beside jansson, which may refuse for
 * other reasons (numbers that do not fit, NULs, depth) but takes nothing that is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/json_text.h"
#include "tests/unit/seed.h"

#define TEXTS    40000u
#define TEXT_MAX 64u

static struct seed seed;

static void check(const char *text, bool valid)
{
	size_t len = strlen(text);
	char *exact = malloc(len + 1); /* nothing behind it may be read */

	memcpy(exact, text, len);
	if (json_text_valid(exact, len) != valid)
		fail_msg("'%s' is %sJSON", text, valid ? "" : "no ");
	free(exact);
}

static void test_valid(void **state)
{
	static const char *const good[] = {
		"null",
		" true ",
		"\t\r\nfalse\n",
		"0",
		"-0",
		"10",
		"-12.50",
		"1e999",
		"1E+2",
		"0.5e-3",
		"12345678901234567890123",
		"\"\"",
		"\"a\\u0000b\"",
		"\"\\ud800\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		"\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf\"",
		"[]",
		"[ ]",
		"{}",
		"{ }",
		"[1]",
		"[1 , [2,{}],\"x\"]",
		"{\"a\":1}",
		"{\"a\" : {\"b\":[{}]} , \"a\":null}",
		"{\"a\":18446744073709551615}",
		"[[],[[]],{\"\":[]}]",
		"\"\x7f\"",
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		check(good[i], true);
}

static void test_invalid(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"nul",
		"nulll",
		"True",
		"+1",
		"01",
		"-",
		"-a",
		"1.",
		".5",
		"1.e1",
		"1e",
		"1e+",
		"0x1",
		"1 2",
		"NaN",
		"Infinity",
		"\"",
		"\"a",
		"\"\\\"",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\u12g4\"",
		"\"\t\"",
		"'a'",
		"\"\x80\"",
		"\"\xc0\x80\"",
		"\"\xc3\"",
		"\"\xc3(\"",
		"\"\xe0\x80\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\xf0\x80\x80\x80\"",
		"\"\xf4\x90\x80\x80\"",
		"\"\xf5\x80\x80\x80\"",
		"\"\xff\"",
		"\xef\xbb\xbf"
		"1",
		"[",
		"]",
		"[1",
		"[1,",
		"[1,]",
		"[,1]",
		"[1 2]",
		"[1}",
		"{",
		"}",
		"{1:2}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{\"a\":1 \"b\":2}",
		"{\"a\" 1}",
		"{\"a\":1]",
		"{a:1}",
		"[]]",
		"{}{}",
		"[1]x",
		"//x\n1",
		"\"a\"\"b\"",
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check(bad[i], false);
	assert_false(json_text_valid("1\0", 2));
	assert_false(json_text_valid("\"\0\"", 3));
	assert_false(json_text_valid("\"\\\0\"", 4));
	assert_false(json_text_valid("\"\\u00\0"
				     "0\"",
				     8));
}

static void test_depth(void **state)
{
	static char text[2 * (JSON_TEXT_DEPTH_MAX + 1) + 1];

	(void)state;
	for (unsigned more = 0; more < 2; more++) {
		unsigned depth = JSON_TEXT_DEPTH_MAX + more;

		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(json_text_valid(text, 2 * (size_t)depth), !more);
		assert_false(json_text_valid(text, 2 * (size_t)depth - 1));
	}
}

/* Pieces of JSON put together anyhow, a byte here and there changed. */
static size_t random_text(char *text)
{
	static const char *const pieces[] = { "{",  "}",        "[",       "]",   ",",
					      ":",  "\"a\"",    "\"\\n\"", "1",   "-2.5e3",
					      "0",  "true",     "null",    " ",   "\"",
					      "\\", "\xc3\xa9", "{\"a\":", "[1,", "e" };
	size_t len = 0;

	while (len < TEXT_MAX - 8 && seed_below(&seed, 8)) {
		const char *piece = pieces[seed_below(&seed, 20)];

		memcpy(text + len, piece, strlen(piece));
		len += strlen(piece);
	}
	if (len && !seed_below(&seed, 4))
		text[seed_below(&seed, len)] = (char)(1 + seed_below(&seed, 255));
	return len;
}

static void test_beside_jansson(void **state)
{
	unsigned valid = 0;

	(void)state;
	for (unsigned i = 0; i < TEXTS; i++) {
		char text[TEXT_MAX];
		size_t len = random_text(text);
		json_error_t error;
		json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
		bool ours = json_text_valid(text, len);

		/* It has other reasons to refuse; nothing that it takes may be refused here. */
		if (value ? !ours
			  : ours && json_error_code(&error) != json_error_numeric_overflow &&
				    json_error_code(&error) != json_error_stack_overflow)
			fail_msg("'%.*s': %d, jansson: %s", (int)len, text, ours, error.text);
		valid += ours;
		json_decref(value);
	}
	assert_in_range(valid, TEXTS / 100, TEXTS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_beside_jansson),
	};

	seed = seed_begin(8259);
	return cmocka_run_group_tests_name("json_text", tests, NULL, NULL);
}
