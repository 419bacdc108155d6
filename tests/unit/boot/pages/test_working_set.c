/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/pages/working_set.c and boot/pages/trace.c: what a file may say, every byte of it, how touches
 * become runs, and what is worth a huge page.
 *
 * wrap: madvise
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "arch/base/digest.h"
#include "arch/base/error.h"
#include "boot/pages/trace.h"
#include "boot/pages/working_set.h"

#define PAGE  4096ull
#define SIZE  (64 * PAGE)
#define BOUND 0x1122334455667788ull

static struct working_set_run runs[] = {
	{ .page = 1, .count = 2, .rank = 3, .flags = WORKING_SET_WRITTEN },
	{ .page = 3, .count = 1, .rank = 0, .flags = 0 },
	{ .page = 60, .count = 4, .rank = 1, .flags = 0 },
};

/* The file of some runs; blob_fini() it. */
static struct blob encode(struct working_set_run *list, uint32_t count)
{
	const struct working_set ws = { .runs = list, .count = count, .trials = 2 };
	struct blob file;

	assert_int_equal(working_set_encode(&ws, BOUND, &file), 0);
	return file;
}

static int parse(const struct blob *file, size_t len, uint64_t bound, uint64_t size)
{
	struct working_set ws;
	int ret = working_set_parse(&ws, "FILE", file->data, len, bound, size);

	if (ret == 0)
		working_set_fini(&ws);
	else
		assert_non_null(strstr(error_text(), "FILE: "));
	return ret;
}

static void test_round_trip(void **state)
{
	struct blob file = encode(runs, 3);
	struct working_set ws;

	(void)state;
	assert_int_equal(working_set_parse(&ws, "FILE", file.data, file.len, BOUND, SIZE), 0);
	assert_int_equal(ws.count, 3);
	assert_int_equal(ws.trials, 2);
	assert_int_equal(ws.written_pages, 2);
	assert_int_equal(ws.read_pages, 5);
	assert_memory_equal(ws.runs, runs, sizeof(runs));
	working_set_fini(&ws);
	working_set_fini(&ws);
	blob_fini(&file);
}

/* All of 1 GiB is written, says the file: what a start copies in bulk has a limit; first come, first kept. */
static void test_cut(void **state)
{
	const uint64_t gib = 1ull << 30;
	struct working_set_run all = { .count = 1u << 18, .flags = WORKING_SET_WRITTEN };
	struct working_set_run some[] = {
		{ .page = 0, .count = 20000, .rank = 50000, .flags = WORKING_SET_WRITTEN },
		{ .page = 30000, .count = 20000, .rank = 0, .flags = 0 },
		{ .page = 60000, .count = 10, .rank = WORKING_SET_PAGES_MAX, .flags = 0 },
		{ .page = 70000, .count = 20000, .rank = 20000, .flags = WORKING_SET_WRITTEN },
	};
	struct blob file = encode(&all, 1);
	struct working_set ws;

	(void)state;
	assert_int_equal(working_set_parse(&ws, "FILE", file.data, file.len, BOUND, gib), 0);
	assert_int_equal(ws.written_pages, WORKING_SET_PAGES_MAX);
	assert_int_equal(ws.runs[0].count, WORKING_SET_PAGES_MAX);
	working_set_fini(&ws);
	blob_fini(&file);
	file = encode(some, 4);
	assert_int_equal(working_set_parse(&ws, "FILE", file.data, file.len, BOUND, gib), 0);
	assert_int_equal(ws.count, 2);
	assert_int_equal(ws.runs[0].page, 30000);
	assert_int_equal(ws.read_pages, 20000);
	assert_int_equal(ws.runs[1].page, 70000);
	assert_int_equal(ws.written_pages, WORKING_SET_PAGES_MAX - 20000);
	working_set_fini(&ws);
	blob_fini(&file);
}

static void test_empty(void **state)
{
	struct blob file = encode(NULL, 0);

	(void)state;
	assert_int_equal(parse(&file, file.len, BOUND, SIZE), 0);
	blob_fini(&file);
}

static void test_every_bit(void **state)
{
	struct blob file = encode(runs, 3);

	(void)state;
	for (size_t i = 0; i < file.len * 8; i++) {
		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(parse(&file, file.len, BOUND, SIZE), -EINVAL);
		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_int_equal(parse(&file, file.len, BOUND, SIZE), 0);
	blob_fini(&file);
}

static void test_every_length(void **state)
{
	struct blob file = encode(runs, 3);

	(void)state;
	for (size_t len = 0; len < file.len; len++)
		assert_int_equal(parse(&file, len, BOUND, SIZE), -EINVAL);
	blob_put_u32(&file, 0);
	assert_int_equal(parse(&file, file.len, BOUND, SIZE), -EINVAL);
	blob_fini(&file);
}

static void test_belongs(void **state)
{
	struct blob file = encode(runs, 3);

	(void)state;
	assert_int_equal(parse(&file, file.len, BOUND + 1, SIZE), -EINVAL);
	assert_non_null(strstr(error_text(), "belongs to another snapshot"));
	assert_int_equal(parse(&file, file.len, BOUND, SIZE - PAGE), -EINVAL);
	assert_non_null(strstr(error_text(), "not those of this memory"));
	blob_fini(&file);
}

/* A header word changed and the checksum made right again. */
static void test_header(void **state)
{
	static const struct {
		size_t offset;
		uint32_t value;
		const char *sentence;
	} cases[] = {
		{ 0, 7, "does not begin as a working set does" },
		{ 8, 2, "has version 2; this virga reads version 1" },
		{ 12, 8192, "its header makes no sense" },
		{ 16, 2, "its header makes no sense" },
		{ 16, 0xffffffff, "its header makes no sense" },
		{ 24, 1, "its header makes no sense" },
		{ 28, 1, "its header makes no sense" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob file = encode(runs, 3);
		uint64_t sum;

		memcpy(file.data + cases[i].offset, &cases[i].value, 4);
		sum = digest64(file.data, file.len - 8);
		memcpy(file.data + file.len - 8, &sum, 8);
		assert_int_equal(parse(&file, file.len, BOUND, SIZE), -EINVAL);
		assert_non_null(strstr(error_text(), cases[i].sentence));
		blob_fini(&file);
	}
}

/* Runs that no builder writes, with a right checksum. */
static void test_runs(void **state)
{
	static struct working_set_run bad[][2] = {
		{ { 1, 2, 0, 0 }, { 2, 1, 0, 0 } },          /* overlap */
		{ { 5, 1, 0, 0 }, { 1, 1, 0, 0 } },          /* not ascending */
		{ { 1, 0, 0, 0 }, { 2, 1, 0, 0 } },          /* empty */
		{ { 1, 1, 0, 2 }, { 2, 1, 0, 0 } },          /* a flag that is none */
		{ { 1, 1, 0, 0 }, { 63, 2, 0, 0 } },         /* beyond memory */
		{ { 1, 1, 0, 0 }, { 2, 0xffffffff, 0, 0 } }, /* far beyond */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct blob file = encode(bad[i], 2);

		assert_int_equal(parse(&file, file.len, BOUND, SIZE), -EINVAL);
		assert_non_null(strstr(error_text(), "not those of this memory"));
		blob_fini(&file);
	}
}

static void test_trace(void **state)
{
	static const struct working_set_run expected[] = {
		{ 0, 1, 4, 0 },
		{ 7, 2, 1, WORKING_SET_WRITTEN },
		{ 9, 3, 0, 0 },
		{ 63, 1, 6, WORKING_SET_WRITTEN },
	};
	struct page_trace trace;
	struct working_set ws;

	(void)state;
	assert_int_equal(page_trace_init(&trace, SIZE), 0);
	page_trace_touch(&trace, 10, false);
	page_trace_touch(&trace, 8, false);
	page_trace_touch(&trace, 9, false);
	page_trace_touch(&trace, 11, false);
	page_trace_touch(&trace, 0, false);
	page_trace_touch(&trace, 7, true);
	page_trace_touch(&trace, 63, true);
	page_trace_touch(&trace, 63, false);   /* written stays written */
	page_trace_touch(&trace, 8, true);     /* read first, then written: its rank stays */
	page_trace_touch(&trace, 64, true);    /* beyond memory */
	page_trace_touch(&trace, ~0ull, true); /* far beyond */
	trace.trials = 1;
	assert_int_equal(page_trace_working_set(&trace, &ws), 0);
	assert_int_equal(ws.count, 4);
	assert_memory_equal(ws.runs, expected, sizeof(expected));
	assert_int_equal(ws.written_pages, 3);
	assert_int_equal(ws.read_pages, 4);
	assert_int_equal(ws.trials, 1);
	working_set_fini(&ws);
	page_trace_fini(&trace);
}

static void test_trace_nothing(void **state)
{
	struct page_trace trace;
	struct working_set ws;
	struct blob file;

	(void)state;
	assert_int_equal(page_trace_init(&trace, SIZE), 0);
	assert_int_equal(page_trace_working_set(&trace, &ws), 0);
	assert_int_equal(ws.count, 0);
	assert_int_equal(working_set_encode(&ws, BOUND, &file), 0);
	assert_int_equal(parse(&file, file.len, BOUND, SIZE), 0);
	blob_fini(&file);
	working_set_fini(&ws);
	page_trace_fini(&trace);
}

static uint64_t collapsed[8];
static unsigned collapsed_count;

/* Runs of a large set, which may be read once: those of stretches that are done are taken away. */
#define PASS_STRETCHES 64u
#define PASS_RUNS      32u /* in a stretch */

static struct working_set_run *pass_runs;

int __wrap_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice)
{
	if (pass_runs) {
		size_t done = (uintptr_t)at / MEMORY_ALIGNMENT * PASS_RUNS * sizeof(*pass_runs);

		assert_int_equal(mprotect(pass_runs, done / PAGE * PAGE, PROT_NONE), 0);
		return 0;
	}
	assert_int_equal(len, MEMORY_ALIGNMENT);
	assert_int_equal(advice, 25 /* MADV_COLLAPSE */);
	collapsed[collapsed_count++] = (uint64_t)(uintptr_t)at;
	return at == (void *)(3 * MEMORY_ALIGNMENT) ? -1 : 0;
}

/* Pages that are read count where they lie; a stretch that memory does not hold whole is none. */
static void test_collapse(void **state)
{
	static struct working_set_run list[] = {
		{ .page = 0, .count = 300, .flags = WORKING_SET_WRITTEN },
		{ .page = 400, .count = 7, .flags = 0 },
		{ .page = 600, .count = 3, .flags = 0 },
		{ .page = 1016, .count = 5 + 8 + 7, .flags = 0 },
		{ .page = 1536, .count = 520, .flags = 0 },
	};
	const struct working_set ws = { .runs = list, .count = 5 };
	const struct memory m = { .base = NULL, .size = 4 * MEMORY_ALIGNMENT + PAGE };

	(void)state;
	collapsed_count = 0;
	assert_int_equal(working_set_collapse(&ws, &m), 2);
	assert_int_equal(collapsed_count, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(collapsed[i], (i + 1) * MEMORY_ALIGNMENT);
}

/* However many stretches there are: a set of 2^20 runs and 16 GiB of memory are one pass over each. */
static void test_collapse_in_one_pass(void **state)
{
	const size_t count = (size_t)PASS_STRETCHES * PASS_RUNS;
	struct working_set_run *all = mmap(NULL, count * sizeof(*all), PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct working_set ws = { .runs = all, .count = (uint32_t)count };
	const struct memory m = { .base = NULL, .size = PASS_STRETCHES * MEMORY_ALIGNMENT };

	(void)state;
	assert_ptr_not_equal(all, MAP_FAILED);
	for (uint32_t i = 0; i < count; i++)
		all[i] = (struct working_set_run){ .page = 16 * i, .count = 8 };
	pass_runs = all;
	assert_int_equal(working_set_collapse(&ws, &m), PASS_STRETCHES);
	pass_runs = NULL;
	munmap(all, count * sizeof(*all));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),          cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_empty),        cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_length), cmocka_unit_test(test_belongs),
		cmocka_unit_test(test_header),       cmocka_unit_test(test_runs),
		cmocka_unit_test(test_trace),        cmocka_unit_test(test_trace_nothing),
		cmocka_unit_test(test_collapse),     cmocka_unit_test(test_collapse_in_one_pass),
	};

	return cmocka_run_group_tests_name("working_set", tests, NULL, NULL);
}
