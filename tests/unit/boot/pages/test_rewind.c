/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/pages/rewind.c on real memory: whatever a guest writes, the template's bytes are there
 * again after a rewind; what it is known to write stays private, the rest is given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/memory.h"
#include "boot/pages/rewind.h"

#define PAGE  4096ul
#define PAGES 1024ul
#define SIZE  (PAGES * PAGE)

static struct memory memory;
static uint8_t *template;
static struct working_set_run runs[] = {
	{ .page = 10, .count = 6, .flags = WORKING_SET_WRITTEN },
	{ .page = 40, .count = 5, .flags = 0 },
};
static const struct working_set working_set = { .runs = runs, .count = 2 };

/* A template of random bytes with holes, mapped copy-on-write. */
static int setup(void **state)
{
	struct memory source;

	(void)state;
	if (memory_create(&source, SIZE) < 0)
		return -1;
	template = malloc(SIZE);
	for (uint64_t i = 0; i < SIZE; i++)
		template[i] = i / PAGE % 7 == 3 ? 0 : (uint8_t)rand();
	for (uint64_t i = 0; i < PAGES; i++)
		if (i % 7 != 3)
			memcpy(source.base + i * PAGE, template + i * PAGE, PAGE);
	if (memory_reserve(&memory, SIZE) < 0 || memory_lay(&memory, dup(source.fd)) < 0)
		return -1;
	memory_destroy(&source);
	memory_open_pagemap(&memory);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(&memory);
	free(template);
	return 0;
}

static void rewind_checked(struct rewind *r, uint64_t copied, uint64_t dropped)
{
	assert_int_equal(rewind_memory(r, &memory), 0);
	assert_memory_equal(memory.base, template, SIZE);
	assert_int_equal(r->copied, copied);
	assert_int_equal(r->dropped, dropped);
}

static void scribble(uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		memset(memory.base + i * PAGE + i % PAGE / 2, 0xa5, PAGE / 2);
}

static void test_rewind(void **state)
{
	struct rewind r;

	(void)state;
	assert_int_equal(rewind_init(&r, &memory, &working_set), 0);
	rewind_checked(&r, 0, 0);
	/* Known from the working set; pages that it says are read are not. */
	scribble(10, 6);
	scribble(40, 1);
	rewind_checked(&r, 6, 1);
	/* Dropped twice in a row: known from then on. */
	scribble(40, 1);
	rewind_checked(&r, 6 + 1, 0);
	scribble(100, 64);
	rewind_checked(&r, 7, 64);
	rewind_checked(&r, 7, 0);
	/* Not in a row. */
	scribble(100, 64);
	rewind_checked(&r, 7, 64);
	/* The first and the last page, and all. */
	scribble(0, 1);
	scribble(PAGES - 1, 1);
	rewind_checked(&r, 7, 2);
	scribble(0, PAGES);
	rewind_checked(&r, 9, PAGES - 9);
	rewind_fini(&r);
	rewind_fini(&r);
}

static void test_watched(void **state)
{
	static const uint64_t pages[] = { 3, 64, PAGES - 1 };
	struct rewind r;

	(void)state;
	assert_int_equal(rewind_init(&r, &memory, &working_set), 0);
	rewind_watch(&r, pages, 3);
	/* What the test before left private is given back. */
	assert_int_equal(rewind_memory(&r, &memory), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		scribble(i, 1);
		assert_int_equal(rewind_memory(&r, &memory), 0);
		assert_int_equal(r.touched, i == 3 || i == 64 || i == PAGES - 1);
	}
	rewind_fini(&r);
	assert_memory_equal(memory.base, template, SIZE);
}

static void test_random(void **state)
{
	struct rewind r;

	(void)state;
	assert_int_equal(rewind_init(&r, &memory, &working_set), 0);
	for (int round = 0; round < 200; round++) {
		for (int n = rand() % 40; n > 0; n--) {
			uint64_t first = (uint64_t)rand() % PAGES;

			scribble(first, 1 + (uint64_t)rand() % 9 % (PAGES - first));
		}
		assert_int_equal(rewind_memory(&r, &memory), 0);
		assert_memory_equal(memory.base, template, SIZE);
	}
	rewind_fini(&r);
}

static void test_no_pagemap(void **state)
{
	struct memory blind = memory;
	struct rewind r;

	(void)state;
	blind.pagemap_fd = -1;
	assert_int_equal(rewind_init(&r, &blind, &working_set), -ENOENT);
	assert_non_null(strstr(error_text(), "pagemap"));
	rewind_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_watched),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_no_pagemap),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
