/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of keys (arch/base/keys.c): each type from text, from JSON and from words, what is refused and
 * with which sentence, and that a refusal leaves the key as it was.
 *
 * wrap: strdup
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/keys.h"

struct things {
	uint32_t count, seconds, word;
	uint64_t size;
	bool yes;
	char *text, *checked, *bytes;
	char *list[3];
	uint32_t list_count;
	int other;
};

static bool no_memory;

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return no_memory ? NULL : __real_strdup(text);
}

static const char *check_even(const char *text)
{
	return strlen(text) % 2 ? "an even number of letters is allowed" : NULL;
}

static int set_other(const struct key *key, void *object, const char *where, const json_t *value)
{
	(void)key;
	((struct things *)object)->other = (int)json_integer_value(value);
	return json_is_integer(value) ? 0 : failf(EINVAL, "%s: other: a number", where);
}

static const char *const words[] = { "red", "green", "blue", NULL };

/* clang-format off */
static const struct key keys[] = {
	KEY_COUNT(struct things, count, "count", 2, 4000000000),
	KEY_SECONDS(struct things, seconds, "seconds"),
	KEY_SIZE(struct things, size, "size", 4096, 1ull << 40),
	KEY_BOOL(struct things, yes, "yes"),
	KEY_TEXT(struct things, text, "text", 1, 8),
	KEY_CHECKED(struct things, checked, "checked", 8, check_even),
	KEY_BYTES(struct things, bytes, "bytes"),
	KEY_WORD(struct things, word, "word", words),
	KEY_LIST(struct things, list, list_count, "list"),
	KEY_OTHER("other", set_other),
	KEY_END,
};
/* clang-format on */

static struct things t;

static int reset(void **state)
{
	(void)state;
	no_memory = false;
	keys_fini(keys, &t);
	t = (struct things){ .count = 7, .seconds = 7, .size = 8192 };
	return 0;
}

static int set(const char *name, const char *text)
{
	return key_set(key_find(keys, name), &t, NULL, text);
}

static void refused(const char *name, const char *text, const char *sentence)
{
	assert_int_equal(set(name, text), -EINVAL);
	assert_string_equal(error_text(), sentence);
}

static void test_text_forms(void **state)
{
	(void)state;
	assert_int_equal(set("count", "4000000000"), 0);
	assert_int_equal(t.count, 4000000000u);
	assert_int_equal(set("seconds", "0.0016"), 0);
	assert_int_equal(t.seconds, 2);
	assert_int_equal(set("seconds", "86400"), 0);
	assert_int_equal(t.seconds, 86400000);
	assert_int_equal(set("seconds", ".5"), 0);
	assert_int_equal(t.seconds, 500);
	assert_int_equal(set("size", "1024G"), 0);
	assert_true(t.size == 1ull << 40);
	assert_int_equal(set("size", "4096"), 0);
	assert_true(t.size == 4096);
	assert_int_equal(set("yes", "true"), 0);
	assert_true(t.yes);
	assert_int_equal(set("yes", "false"), 0);
	assert_false(t.yes);
	assert_int_equal(set("text", "\xc3\xa4"), 0);
	assert_string_equal(t.text, "\xc3\xa4");
	assert_int_equal(set("checked", ""), 0);
	assert_int_equal(set("word", "blue"), 0);
	assert_int_equal(t.word, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(set("list", words[i]), 0);
	assert_int_equal(t.list_count, 3);
	assert_string_equal(t.list[2], "blue");
	assert_null(key_find(keys, "counts"));
	assert_null(key_find(keys, ""));
}

static void test_text_refused(void **state)
{
	static const char *const counts[] = { "",    "1",  "4000000001", "18446744073709551618",
					      "2x",  " 2", "+2",         "-2",
					      "0x2", "2.0" };
	static const char *const times[] = { "",    "0",   "0.0009", "-1", "86400.1", "nan",
					     "inf", "1e9", "soon",   "1s", " 1",      "+1" };
	static const char *const sizes[] = { "",
					     "4095",
					     "4097",
					     "1025G",
					     "M",
					     "4KB",
					     "4k",
					     "-4K",
					     "18446744073709551615",
					     "17179869184G",
					     "99999999999999999999" };
	char sentence[200];

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		snprintf(sentence, sizeof(sentence),
			 "count '%s': a whole number from 2 to 4000000000 is allowed", counts[i]);
		refused("count", counts[i], sentence);
	}
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(sentence, sizeof(sentence),
			 "seconds '%s': seconds from 0.001 to 86400 are allowed", times[i]);
		refused("seconds", times[i], sentence);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(sentence, sizeof(sentence),
			 "size '%s': 4K to 1024G are allowed, in whole pages of 4096 bytes",
			 sizes[i]);
		refused("size", sizes[i], sentence);
	}
	refused("yes", "1", "yes '1': true or false are allowed");
	refused("text", "", "text '' has 0 bytes; 1 to 8 are allowed");
	refused("text", "123456789", "text '123456789' has 9 bytes; 1 to 8 are allowed");
	refused("text", "\xff", "text: its value is not UTF-8, which is all that is allowed");
	refused("checked", "odd", "checked 'odd': an even number of letters is allowed");
	refused("word", "Red", "word 'Red': red, green and blue are allowed");
	refused("other", "1", "other '1': it can be said in JSON only");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(set("list", "x"), 0);
	refused("list", "x", "list 'x': a text or up to 3 of them are allowed");
	assert_int_equal(t.count, 7);
	assert_int_equal(t.seconds, 7);
	assert_true(t.size == 8192);
	assert_null(t.text);
}

/* What a program is given may be no UTF-8 and as long as the kernel allows. */
static void test_bytes(void **state)
{
	static char all[131072];

	(void)state;
	for (size_t i = 0; i < sizeof(all) - 1; i++)
		all[i] = (char)(i % 255 + 1);
	assert_int_equal(set("bytes", ""), 0);
	assert_string_equal(t.bytes, "");
	assert_int_equal(set("bytes", all), 0);
	assert_string_equal(t.bytes, all);
	no_memory = true;
	assert_int_equal(set("bytes", "after"), -ENOMEM);
	assert_string_equal(t.bytes, all);
}

static void test_no_memory(void **state)
{
	(void)state;
	assert_int_equal(set("text", "before"), 0);
	no_memory = true;
	assert_int_equal(set("text", "after"), -ENOMEM);
	assert_int_equal(set("list", "after"), -ENOMEM);
	assert_string_equal(t.text, "before");
	assert_int_equal(t.list_count, 0);
}

static int read_json(const char *text)
{
	json_t *object = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	int ret;

	assert_non_null(object);
	ret = keys_set_json(keys, &t, "F: part", object);
	json_decref(object);
	return ret;
}

static void test_json(void **state)
{
	static const struct {
		const char *json, *sentence;
	} bad[] = {
		{ "3", "F: part: must be an object" },
		{ "{\"tex\": 1}",
		  "F: part: there is no key 'tex'; there are: count, seconds, size, yes, "
		  "text, checked, bytes, word, list, other" },
		{ "{\"count\": 1}",
		  "F: part: key 'count': a whole number from 2 to 4000000000 is allowed, not '1'" },
		{ "{\"count\": 2.5}",
		  "F: part: key 'count': a whole number from 2 to 4000000000 is allowed" },
		{ "{\"seconds\": \"1\"}",
		  "F: part: key 'seconds': seconds from 0.001 to 86400 are allowed" },
		{ "{\"size\": true}",
		  "F: part: key 'size': 4K to 1024G are allowed, in whole pages of 4096 bytes" },
		{ "{\"yes\": \"true\"}", "F: part: key 'yes': true or false are allowed" },
		{ "{\"text\": 1}", "F: part: key 'text': must be a text of 1 to 8 bytes" },
		{ "{\"text\": \"123456789\"}",
		  "F: part: key 'text': must be a text of 1 to 8 bytes, not 9" },
		{ "{\"bytes\": \"x\"}",
		  "F: part: key 'bytes': it can be said on the command line only" },
		{ "{\"word\": 1}", "F: part: key 'word': red, green and blue are allowed" },
		{ "{\"list\": [\"a\", 1]}",
		  "F: part: key 'list': a text or up to 3 of them are allowed" },
		{ "{\"list\": [\"a\", \"b\", \"c\", \"d\"]}",
		  "F: part: key 'list': a text or up to 3 of them are allowed, not 'd'" },
		{ "{\"other\": \"x\"}", "F: part: other: a number" },
	};
	json_t *printed;
	char *text;

	assert_int_equal(
		read_json("{\"count\": 9, \"seconds\": 1.5, \"size\": 8192, \"yes\": true, "
			  "\"text\": \"x\", \"word\": \"green\", \"list\": [\"a\", \"b\"], "
			  "\"other\": 5}"),
		0);
	assert_int_equal(t.count, 9);
	assert_int_equal(t.seconds, 1500);
	assert_int_equal(t.word, 1);
	assert_int_equal(t.list_count, 2);
	assert_int_equal(t.other, 5);
	printed = keys_print(keys, &t);
	text = json_dumps(printed, JSON_COMPACT);
	assert_string_equal(
		text, "{\"count\":9,\"seconds\":1.5,\"size\":\"8K\",\"yes\":true,\"text\":\"x\","
		      "\"word\":\"green\"}");
	free(text);
	json_decref(printed);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reset(state);
		assert_int_equal(read_json(bad[i].json), -EINVAL);
		assert_string_equal(error_text(), bad[i].sentence);
	}
}

static int write_word(void *opaque, const char *key, const char *value)
{
	char *to = opaque;

	if (strcmp(key, "stop") == 0)
		return -EDOM;
	snprintf(to + strlen(to), 80 - strlen(to), "[%s|%s]", key, value ? value : "NULL");
	return 0;
}

static void test_words(void **state)
{
	static const char *const cases[][2] = {
		{ "", "[|NULL]" },
		{ "a=1", "[a|1]" },
		{ "a=1,b,c=", "[a|1][b|NULL][c|]" },
		{ "a=x,,y,b=,,", "[a|x,y][b|,]" },
		{ "a=b=c,,,d", "[a|b=c,][d|NULL]" },
		{ "a,", "[a|NULL][|NULL]" },
		{ "=x", "[|x]" },
	};
	char got[80];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		got[0] = 0;
		assert_int_equal(keys_each_word(cases[i][0], write_word, got), 0);
		assert_string_equal(got, cases[i][1]);
	}
	got[0] = 0;
	assert_int_equal(keys_each_word("a=1,stop,b=2", write_word, got), -EDOM);
	assert_string_equal(got, "[a|1]");
}

static void test_file(void **state)
{
	char path[] = "/tmp/test_keys.XXXXXX";
	int fd = mkstemp(path);
	json_t *value;

	(void)state;
	assert_int_equal(write(fd, "{\n\"a\": 1, \"a\": 2}", 17), 17);
	assert_int_equal(keys_read(path, &value), -EINVAL);
	assert_non_null(strstr(error_text(), path));
	assert_non_null(strstr(error_text(), "line 2: duplicate"));
	assert_null(value);
	assert_return_code(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "[1]", 3, 0), 3);
	assert_int_equal(keys_read(path, &value), 0);
	assert_int_equal(json_array_size(value), 1);
	json_decref(value);
	close(fd);
	unlink(path);
	assert_int_equal(keys_read(path, &value), -ENOENT);
	assert_int_equal(keys_read("/tmp", &value), -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_text_forms), TEST(test_text_refused), TEST(test_bytes),
		TEST(test_no_memory),  TEST(test_json),         TEST(test_words),
		TEST(test_file),
	};

	return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
