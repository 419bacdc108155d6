/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/state.c: a file comes back as it was written; any byte flipped, any length cut,
 * anything appended is found and named; hostile tables with right checksums too.
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

#include "arch/base/digest.h"
#include "arch/base/error.h"
#include "boot/snapshot/state.h"

#define HEADER        56u
#define ENTRY         56u
#define AT_VERSION    8u
#define AT_ARCH       12u
#define AT_PAGE_SIZE  16u
#define AT_COUNT      20u
#define AT_TABLE_SUM  40u
#define AT_HEADER_SUM 48u
#define ENTRY_OFFSET  32u
#define ENTRY_LEN     40u

static struct blob make_file(void)
{
	struct state_writer w = { 0 };
	struct blob file = { 0 };

	blob_put(state_section_add(&w, "machine", 0, 1), "abcdefgh", 8);
	blob_put(state_section_add(&w, "vcpu", 0, 3), "first", 5);
	blob_put(state_section_add(&w, "vcpu", 1, 3), "second!", 7);
	assert_non_null(state_section_add(&w, "empty", 0, 9));
	assert_int_equal(state_encode(&w, &file), 0);
	state_writer_fini(&w);
	return file;
}

static int parse(const void *data, size_t len)
{
	/* A copy of exactly that length, so that a sanitizer sees any read past it. */
	uint8_t *copy = malloc(len ? len : 1);
	struct state_file parsed;
	int ret;

	memcpy(copy, data, len);
	ret = state_parse(&parsed, "t/state", copy, len);
	free(copy);
	return ret;
}

/* Makes table and header checksums right again, and the one at the end. */
static void seal(struct blob *file)
{
	uint32_t count;
	uint64_t sum;

	memcpy(&count, file->data + AT_COUNT, sizeof(count));
	if (HEADER + (size_t)count * ENTRY <= file->len) {
		sum = digest64(file->data + HEADER, (size_t)count * ENTRY);
		memcpy(file->data + AT_TABLE_SUM, &sum, sizeof(sum));
	}
	sum = digest64(file->data, AT_HEADER_SUM);
	memcpy(file->data + AT_HEADER_SUM, &sum, sizeof(sum));
	sum = digest64(file->data, file->len - sizeof(sum));
	memcpy(file->data + file->len - sizeof(sum), &sum, sizeof(sum));
}

static void expect(int ret, const char *words)
{
	assert_int_equal(ret, -EINVAL);
	if (!strstr(error_text(), words) || !strstr(error_text(), "t/state: "))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

static void test_roundtrip(void **state)
{
	struct blob file = make_file();
	struct state_file parsed;
	const struct state_section *section;

	(void)state;
	assert_int_equal(state_parse(&parsed, "t/state", file.data, file.len), 0);
	assert_int_equal(parsed.count, 4);
	section = state_find(&parsed, "vcpu", 1);
	assert_non_null(section);
	assert_int_equal(section->version, 3);
	assert_int_equal(section->len, 7);
	assert_memory_equal(section->data, "second!", 7);
	assert_int_equal(state_find(&parsed, "empty", 0)->len, 0);
	assert_null(state_find(&parsed, "vcpu", 2));
	assert_null(state_find(&parsed, "vcp", 0));
	assert_int_equal(file.len, HEADER + 4 * ENTRY + 20 + 8);
	blob_fini(&file);
}

/* Which words a message must have for damage at a byte. */
static const char *part_of(size_t at, size_t len)
{
	size_t data = HEADER + 4 * ENTRY;

	if (at < HEADER)
		return "header";
	if (at < data)
		return "section table";
	if (at < data + 8)
		return "section machine 0";
	if (at < data + 13)
		return "section vcpu 0";
	return at < len - 8 ? "section vcpu 1" : "checksum at its end";
}

static void test_every_bit_flipped(void **state)
{
	struct blob file = make_file();

	(void)state;
	for (size_t at = 0; at < file.len; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			file.data[at] ^= (uint8_t)(1u << bit);
			expect(parse(file.data, file.len), part_of(at, file.len));
			file.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	assert_int_equal(parse(file.data, file.len), 0);
	blob_fini(&file);
}

static void test_every_length(void **state)
{
	struct blob file = make_file();

	(void)state;
	for (size_t len = 0; len < file.len; len++)
		expect(parse(file.data, len), "cut short");
	blob_put_u32(&file, 0);
	expect(parse(file.data, file.len), "too long");
	blob_fini(&file);
}

static void test_header_fields(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *words;
	} cases[] = {
		{ AT_VERSION, 2, "format version 2; this virga reads version 1" },
		{ AT_ARCH, 183, "another architecture (ELF machine 183" },
		{ AT_PAGE_SIZE, 16384, "pages of 16384 bytes" },
		{ AT_COUNT, STATE_SECTIONS_MAX + 1, "65 sections" },
		{ AT_COUNT, 60, "section table: reaches past" },
		{ AT_COUNT, UINT32_MAX, "4294967295 sections" },
		{ AT_COUNT, 3, "does not lie where it should" },
		{ 32, 1, "reserved" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob file = make_file();

		memcpy(file.data + cases[i].at, &cases[i].value, sizeof(cases[i].value));
		seal(&file);
		expect(parse(file.data, file.len), cases[i].words);
		blob_fini(&file);
	}
}

static void test_hostile_table(void **state)
{
	static const uint64_t values[] = { 0, 1, 1u << 20, UINT64_MAX, UINT64_MAX - 7, 1ull << 63 };

	(void)state;
	for (unsigned entry = 0; entry < 3; entry++) {
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			for (unsigned at = ENTRY_OFFSET; at <= ENTRY_LEN; at += 8) {
				struct blob file = make_file();

				memcpy(file.data + HEADER + entry * ENTRY + at, &values[i], 8);
				seal(&file);
				assert_int_equal(parse(file.data, file.len), -EINVAL);
				blob_fini(&file);
			}
		}
	}
}

static void test_names(void **state)
{
	struct blob file = make_file();

	(void)state;
	memset(file.data + HEADER, 'x', STATE_NAME_MAX);
	seal(&file);
	expect(parse(file.data, file.len), "no valid name");
	memset(file.data + HEADER, 0, STATE_NAME_MAX);
	seal(&file);
	expect(parse(file.data, file.len), "no valid name");
	memcpy(file.data + HEADER, "vcpu", 4);
	seal(&file);
	expect(parse(file.data, file.len), "section vcpu 0 is there twice");
	blob_fini(&file);
}

static void test_bytes_of_no_section(void **state)
{
	struct blob file = make_file();
	uint64_t len = file.len + 8;

	(void)state;
	blob_put_u64(&file, 0);
	memcpy(file.data + 24, &len, sizeof(len));
	seal(&file);
	expect(parse(file.data, file.len), "8 bytes belong to no section");
	blob_fini(&file);
}

static void test_writer_limits(void **state)
{
	struct state_writer w = { 0 };
	struct blob out = { 0 };

	(void)state;
	assert_null(state_section_add(&w, "a_name_of_twenty_four_ch", 0, 1));
	assert_non_null(state_section_add(&w, "a_name_of_twenty_three_", 0, 1));
	for (unsigned i = 1; i < STATE_SECTIONS_MAX; i++)
		assert_non_null(state_section_add(&w, "s", i, 1));
	assert_null(state_section_add(&w, "s", STATE_SECTIONS_MAX, 1));
	assert_int_equal(state_encode(&w, &out), 0);
	assert_int_equal(parse(out.data, out.len), 0);
	blob_fini(&out);

	w.blobs[5].failed = true;
	assert_int_equal(state_encode(&w, &out), -ENOMEM);
	assert_non_null(strstr(error_text(), "section s"));
	blob_fini(&out);
	state_writer_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roundtrip),
		cmocka_unit_test(test_every_bit_flipped),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_header_fields),
		cmocka_unit_test(test_hostile_table),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_bytes_of_no_section),
		cmocka_unit_test(test_writer_limits),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
