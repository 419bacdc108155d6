/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/template/pack_check.c: archives as export writes them, cut anywhere, and archives that
 * somebody else has made.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "serve/template/pack_check.h"
#include "tests/unit/serve/template/pack_state.h"

#define MEMORY_SIZE (64ull << 20)
#define MEMORY_DATA 8192u

/* What a header says, and bytes of it that are then overwritten. */
struct member {
	const char *name;
	char type; /* 'S' for memory with holes */
	uint64_t size;
	uint64_t real_size; /* of type 'S' */
	unsigned sparse;    /* blocks of holes behind the header */
	const void *data;   /* NULL: bytes of 0x77 */
	size_t at;          /* where `edit` is written */
	const char *edit;   /* NULL: nowhere */
	size_t edit_len;
	bool no_data; /* the header only */
};

static void put_zeros(struct blob *out, size_t len)
{
	for (; len; len--)
		blob_put(out, "", 1);
}

static void put_number(char *field, uint64_t value)
{
	if (value >> 33) {
		field[0] = (char)0x80;
		for (unsigned i = 0; i < 8; i++)
			field[11 - i] = (char)(value >> 8 * i);
	} else {
		snprintf(field, 12, "%011llo", (unsigned long long)value);
	}
}

static void seal(char *block)
{
	unsigned sum = 0;
	char text[8];

	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < PACK_BLOCK; i++)
		sum += (uint8_t)block[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(block + 148, text, 7);
}

static void put(struct blob *out, const struct member *m)
{
	char block[PACK_BLOCK] = { 0 };

	memcpy(block, m->name, strlen(m->name));
	memcpy(block + 100, "0000600", 8);
	memcpy(block + 108, "0000000", 8);
	memcpy(block + 116, "0000000", 8);
	put_number(block + 124, m->size);
	memcpy(block + 136, "00000000000", 12);
	block[156] = m->type;
	memcpy(block + 257, "ustar  ", 8);
	if (m->type == 'S') {
		put_number(block + 386, 0);
		put_number(block + 398, m->size);
		put_number(block + 483, m->real_size);
		block[482] = m->sparse > 0;
	}
	if (m->edit)
		memcpy(block + m->at, m->edit, m->edit_len);
	seal(block);
	blob_put(out, block, sizeof(block));
	for (unsigned i = 0; i < m->sparse; i++) {
		memset(block, 0, sizeof(block));
		block[504] = i + 1 < m->sparse;
		blob_put(out, block, sizeof(block));
	}
	if (m->no_data)
		return;
	for (uint64_t i = 0; i < m->size; i++)
		blob_put(out, m->data ? (const char *)m->data + i : "w", 1);
	put_zeros(out, (PACK_BLOCK - m->size % PACK_BLOCK) % PACK_BLOCK);
}

/* --- Archives --- */

static struct blob the_state;

static int setup(void **state)
{
	(void)state;
	the_state = pack_state(MEMORY_SIZE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	blob_fini(&the_state);
	return 0;
}

enum { CONFIG, STATE, WORKING_SET, TEMPLATE, MEMORY, MEMBERS };

/* The members of a good archive, to be changed. */
struct archive {
	struct member list[MEMBERS + 1];
	unsigned count;
};

static struct archive good(void)
{
	return (struct archive){
		.list = {
			{ .name = "config", .type = '0', .size = 700 },
			{ .name = "state", .type = '0', .size = the_state.len, .data = the_state.data },
			{ .name = "working-set", .type = '0', .size = 512 },
			{ .name = "template", .type = '0', .size = 1 },
			{ .name = "memory", .type = 'S', .size = MEMORY_DATA,
			  .real_size = MEMORY_SIZE, .sparse = 2 },
		},
		.count = MEMBERS,
	};
}

static struct blob bytes_of(const struct archive *a)
{
	struct blob out = { 0 };

	for (unsigned i = 0; i < a->count; i++)
		put(&out, &a->list[i]);
	put_zeros(&out, (size_t)2 * PACK_BLOCK);
	return out;
}

/* Feeds len bytes in pieces. */
static int check(const struct blob *file, size_t len, size_t piece)
{
	struct pack_check c;
	int ret = 0;

	pack_check_init(&c, "FILE");
	for (size_t at = 0; ret == 0 && at < len; at += piece)
		ret = pack_check_feed(&c, file->data + at, len - at < piece ? len - at : piece);
	if (ret == 0)
		ret = pack_check_end(&c);
	if (ret < 0)
		assert_memory_equal(error_text(), "FILE", 4);
	pack_check_fini(&c);
	return ret;
}

static void expect(const struct archive *a, const char *sentence)
{
	struct blob file = bytes_of(a);

	assert_int_equal(check(&file, file.len, 1000), -EINVAL);
	if (!strstr(error_text(), sentence))
		fail_msg("'%s' does not say '%s'", error_text(), sentence);
	blob_fini(&file);
}

static void expect_good(const struct archive *a)
{
	struct blob file = bytes_of(a);

	if (check(&file, file.len, 1000) < 0)
		fail_msg("%s", error_text());
	blob_fini(&file);
}

static void drop(struct archive *a, unsigned index)
{
	memmove(&a->list[index], &a->list[index + 1], (MEMBERS - index) * sizeof(a->list[0]));
	a->count--;
}

/* --- Good ones --- */

static void test_good(void **state)
{
	struct archive a = good();
	struct blob file = bytes_of(&a);

	(void)state;
	for (size_t piece = 1; piece < 1100; piece += piece < 20 ? 1 : 53)
		assert_int_equal(check(&file, file.len, piece), 0);
	assert_int_equal(check(&file, file.len, file.len), 0);
	put_zeros(&file, (size_t)19 * PACK_BLOCK); /* to the end of tar's record */
	assert_int_equal(check(&file, file.len, 512), 0);
	blob_fini(&file);

	drop(&a, TEMPLATE);
	expect_good(&a);
	drop(&a, WORKING_SET);
	expect_good(&a);
	a = good();
	drop(&a, WORKING_SET);
	expect_good(&a);
	a = good();
	a.list[CONFIG].type = 'S';
	a.list[CONFIG].real_size = a.list[CONFIG].size;
	a.list[MEMORY].size = 0; /* nothing but a hole */
	expect_good(&a);
}

static void test_counts(void **state)
{
	struct archive a = good();
	struct blob file = bytes_of(&a);
	struct pack_check c;

	(void)state;
	pack_check_init(&c, "FILE");
	assert_int_equal(pack_check_feed(&c, file.data, file.len), 0);
	assert_true(c.memory_size == MEMORY_SIZE);
	assert_true(c.memory_total == MEMORY_DATA && c.memory_done == MEMORY_DATA);
	pack_check_fini(&c);
	blob_fini(&file);
}

/* 12 GiB do not fit into octal digits. */
static void test_large(void **state)
{
	struct blob small = the_state;
	struct archive a;

	(void)state;
	the_state = pack_state(12ull << 30);
	a = good();
	a.list[MEMORY].real_size = 12ull << 30;
	expect_good(&a);
	blob_fini(&the_state);
	the_state = small;
}

/* --- Bad ones --- */

static void test_every_length(void **state)
{
	struct archive a = good();
	struct blob file = bytes_of(&a);

	(void)state;
	for (size_t len = 0; len < file.len; len += len % 512 == 511 ? 1 : 73)
		assert_int_equal(check(&file, len, 4096), -EINVAL);
	assert_int_equal(check(&file, file.len - 1, 4096), -EINVAL);
	assert_non_null(strstr(error_text(), "ends too early"));
	blob_fini(&file);
}

/* No bit of a header can change. */
static void test_every_bit(void **state)
{
	struct archive a = good();
	struct blob file = bytes_of(&a);

	(void)state;
	for (size_t i = 0; i < (size_t)8 * PACK_BLOCK; i++) {
		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(check(&file, file.len, file.len), -EINVAL);
		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	blob_fini(&file);
}

static void test_names(void **state)
{
	static const char *const names[] = { "../memory",  "/etc/passwd", "config/", "./config",
					     "config/x",   "x",           "",        "Config",
					     "unfinished", ".",           "..",      "config.",
					     "memory\n",   "\033[2J",     "confi",   "-config" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (unsigned member = 0; member < MEMBERS; member++) {
			struct archive a = good();

			a.list[member].name = names[i];
			expect(&a, "which is no part of a template");
		}
	}
	for (unsigned member = 0; member < MEMBERS; member++) {
		struct archive a = good();

		/* What follows the NUL is not what tar looks at: it must not be there. */
		a.list[member].at = 50;
		a.list[member].edit = "x";
		a.list[member].edit_len = 1;
		expect(&a, "which is no part of a template");
	}
}

static void test_types(void **state)
{
	static const char types[] = "123456789ABCDEFGHIKLMNOPQRTVXgx";

	(void)state;
	for (size_t i = 0; i < sizeof(types); i++) {
		struct archive a = good();

		a.list[i % MEMBERS].type = types[i]; /* the last is 0, a regular file of old */
		a.list[i % MEMBERS].sparse = 0;
		expect(&a, "which is no regular file");
	}
}

static void test_order(void **state)
{
	static const char *const missing[] = { "'state' before 'config'",
					       "'working-set' before 'state'", NULL, NULL,
					       "has no 'memory' in it" };

	(void)state;
	for (unsigned member = 0; member < MEMBERS; member++) {
		struct archive a = good();

		if (missing[member]) {
			drop(&a, member);
			expect(&a, missing[member]);
		}
		/* Each twice in a row, and each once more at the end. */
		a = good();
		memmove(&a.list[member + 1], &a.list[member],
			(MEMBERS - member) * sizeof(a.list[0]));
		a.count++;
		expect(&a, "twice, or not in its place");
		a = good();
		a.list[a.count++] = a.list[member];
		expect(&a, "twice, or not in its place");
	}
	expect(&(struct archive){ .count = 0 }, "has no 'memory' in it");
}

static void test_memory_size(void **state)
{
	static const uint64_t sizes[] = { 0, MEMORY_SIZE - 1, MEMORY_SIZE + 4096, 1ull << 40,
					  ~0ull >> 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct archive a = good();

		a.list[MEMORY].real_size = sizes[i];
		expect(&a, "but its state says 67108864");
		a.list[MEMORY] = (struct member){
			.name = "memory", .type = '0', .size = sizes[i], .no_data = true
		};
		expect(&a, "but its state says 67108864");
	}
}

static void test_sizes(void **state)
{
	struct archive a = good();

	(void)state;
	a.list[MEMORY].size = MEMORY_SIZE + 1;
	a.list[MEMORY].no_data = true;
	expect(&a, "lengths do not fit");
	a = good();
	a.list[CONFIG].size = (1 << 20) + 1;
	a.list[CONFIG].no_data = true;
	expect(&a, "more than the 1048576 that it can have");
	a = good();
	a.list[TEMPLATE].size = 4097;
	a.list[TEMPLATE].no_data = true;
	expect(&a, "more than the 4096");
	a = good();
	a.list[WORKING_SET].size = 1ull << 62;
	a.list[WORKING_SET].no_data = true;
	expect(&a, "more than the");
	/* A file with holes that is no memory. */
	a = good();
	a.list[STATE].type = 'S';
	a.list[STATE].real_size = a.list[STATE].size + 4096;
	expect(&a, "lengths do not fit");
	a = good();
	a.list[MEMORY].sparse = MEMORY_SIZE / 512 / 21 + 2;
	expect(&a, "more holes than memory has room for");
}

/* Bytes in a header that tar would read differently, or at all. */
static void test_form(void **state)
{
	static const struct {
		unsigned member;
		size_t at;
		const char *bytes;
		size_t len;
		const char *sentence;
	} cases[] = {
		{ CONFIG, 257, "ustar\00000", 8, "no tar archive in GNU format" },
		{ CONFIG, 257, "\0\0\0\0\0\0\0\0", 8, "no tar archive in GNU format" },
		{ CONFIG, 345, "/tmp", 4, "more in it than it should" },
		{ CONFIG, 386, "0", 1, "more in it than it should" },
		{ CONFIG, 482, "\1", 1, "more in it than it should" },
		{ CONFIG, 500, "x", 1, "more in it than it should" },
		{ CONFIG, 157, "/etc/passwd", 11, "more in it than it should" },
		{ CONFIG, 100, "0004755", 8, "more in it than it should" },
		{ MEMORY, 345, "x", 1, "more in it than it should" },
		{ MEMORY, 381, "x", 1, "more in it than it should" },
		{ MEMORY, 495, "x", 1, "more in it than it should" },
		{ CONFIG, 124, "           7", 12, "a length in it is no number" },
		{ CONFIG, 124, "00000000008", 12, "a length in it is no number" },
		{ CONFIG, 124, "-0000000001", 12, "a length in it is no number" },
		{ CONFIG, 124, "\377\377\377\377\377\377\377\377\377\377\377\377", 12,
		  "a length in it is no number" },
		{ CONFIG, 124, "\200\1\0\0\0\0\0\0\0\0\0\1", 12, "a length in it is no number" },
		{ MEMORY, 483, "000000000001", 12, "a length in it is no number" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct archive a = good();
		struct member *m = &a.list[cases[i].member];

		m->at = cases[i].at;
		m->edit = cases[i].bytes;
		m->edit_len = cases[i].len;
		expect(&a, cases[i].sentence);
	}
}

static void test_state(void **state)
{
	struct blob sound = the_state;
	struct archive a = good();

	(void)state;
	a.list[STATE].data = NULL;
	expect(&a, "not the state of a snapshot");
	a = good();
	a.list[STATE].size--;
	expect(&a, "FILE/state: ");
	a = good();
	a.list[STATE].size = 0;
	expect(&a, "but its state says 0");
	the_state = pack_state(0);
	a = good();
	expect(&a, "section machine: 0 bytes of memory");
	blob_fini(&the_state);
	the_state = pack_state(1ull << 50);
	a = good();
	a.list[MEMORY].real_size = 1ull << 50;
	expect(&a, "section machine: 1125899906842624 bytes of memory");
	blob_fini(&the_state);
	the_state = sound;
}

static void test_after_the_end(void **state)
{
	struct archive a = good();
	struct blob file = bytes_of(&a), twice = bytes_of(&a);

	(void)state;
	blob_put(&twice, file.data, file.len);
	assert_int_equal(check(&twice, twice.len, 4096), -EINVAL);
	assert_non_null(strstr(error_text(), "something follows its end"));
	put_zeros(&file, (size_t)20 * PACK_BLOCK);
	assert_int_equal(check(&file, file.len, 4096), -EINVAL);
	assert_non_null(strstr(error_text(), "something follows its end"));
	blob_fini(&file);
	blob_fini(&twice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),          cmocka_unit_test(test_counts),
		cmocka_unit_test(test_large),         cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_every_bit),     cmocka_unit_test(test_names),
		cmocka_unit_test(test_types),         cmocka_unit_test(test_order),
		cmocka_unit_test(test_memory_size),   cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_form),          cmocka_unit_test(test_state),
		cmocka_unit_test(test_after_the_end),
	};

	return cmocka_run_group_tests_name("pack_check", tests, setup, teardown);
}
