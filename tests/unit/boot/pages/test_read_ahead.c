/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/pages/read_ahead.c on a file that the page cache does not hold: what is read, and that
 * it knows when there is nothing to do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/pages/read_ahead.h"

#define PAGE    4096u
#define PAGES   2048u
#define ID      0xd0u /* the page of the identity region */
#define WAIT_US 1000

static char path[] = "/var/tmp/virga-read-ahead.XXXXXX";
static struct memory memory;

static bool is_there(unsigned page)
{
	unsigned char resident = 0;

	assert_int_equal(mincore(memory.base + page * PAGE, PAGE, &resident), 0);
	return resident & 1;
}

/* Whether all of [page, page + count) comes within 5 s. */
static bool comes(unsigned page, unsigned count)
{
	for (unsigned i = 0; i < 5000000 / WAIT_US; i++) {
		unsigned there = 0;

		while (there < count && is_there(page + there))
			there++;
		if (there == count)
			return true;
		usleep(WAIT_US);
	}
	return false;
}

/* A file of data without holes that is on disk only. */
static int set_up(void **state)
{
	static uint8_t data[PAGES * PAGE];
	int fd = mkstemp(path);

	(void)state;
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	assert_int_equal(fsync(fd), 0);
	unlink(path);
	strcpy(path + strlen(path) - 6, "XXXXXX");
	assert_int_equal(memory_map_cow(&memory, sizeof(data), fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	memory_destroy(&memory);
	return 0;
}

/* /tmp may be in memory, where nothing is ever cold; /var/tmp hardly is. */
static void need_cold(void)
{
	if (is_there(0) || is_there(PAGES / 2)) {
		print_message("needs a disk: /var/tmp is in memory\n");
		skip();
	}
}

static void test_without_working_set(void **state)
{
	const struct working_set none = { 0 };

	(void)state;
	need_cold();
	assert_true(read_ahead_if_cold(&none, &memory));
	assert_true(comes(ID, 1)); /* by the question */
	assert_false(read_ahead_if_cold(&none, &memory));
	assert_false(is_there(0));
}

/* Runs, and the pages between near ones; of a long run its head. */
static void test_runs(void **state)
{
	static struct working_set_run runs[] = {
		{ .page = 3, .count = 1 },
		{ .page = 10, .count = 2, .flags = WORKING_SET_WRITTEN },
		{ .page = 200, .count = 50 },
		{ .page = 600, .count = 1000 },
		{ .page = 2000, .count = 48 },
	};
	const struct working_set ws = { .runs = runs, .count = 5 };

	(void)state;
	need_cold();
	assert_true(read_ahead_if_cold(&ws, &memory));
	assert_true(comes(3, 9));
	assert_true(comes(200, 50));
	assert_true(comes(600, 256));
	assert_true(comes(2000, 48));
	assert_false(is_there(150));
	assert_false(is_there(400));
	assert_false(is_there(1400));
	assert_false(read_ahead_if_cold(&ws, &memory));
}

/* One of three places is looked at and not there. */
static void test_partly_cold(void **state)
{
	static struct working_set_run runs[] = {
		{ .page = 3, .count = 1 },
		{ .page = 1000, .count = 1 },
		{ .page = 2040, .count = 8 },
	};
	const struct working_set ws = { .runs = runs, .count = 3 };
	char byte;

	(void)state;
	need_cold();
	assert_int_equal(posix_fadvise(memory.fd, 0, 0, POSIX_FADV_RANDOM), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(read_ahead_if_cold(&ws, &memory));
		for (unsigned run = 0; run < 3; run++)
			assert_true(comes(runs[run].page, runs[run].count));
		assert_false(read_ahead_if_cold(&ws, &memory));
		/* Another CPU may hold a page that has just come for a moment longer. */
		for (unsigned n = 0; n < 1000 && is_there(runs[i].page); n++) {
			posix_fadvise(memory.fd, runs[i].page * PAGE, PAGE, POSIX_FADV_DONTNEED);
			usleep(1000);
		}
	}
	assert_int_equal(pread(memory.fd, &byte, 1, runs[2].page * PAGE), 1);
	assert_false(read_ahead_if_cold(&ws, &memory));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_without_working_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_partly_cold, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("read_ahead", tests, NULL, NULL);
}
