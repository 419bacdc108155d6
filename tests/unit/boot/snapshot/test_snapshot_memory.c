/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/memory.c and boot/pages/private.c: what is written from shared and from
 * copy-on-write memory, byte by byte and hole by hole, and a digest that holes do not change.
 *
 * wrap: pwrite pread syscall
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "boot/pages/private.h"
#include "boot/snapshot/memory.h"

#define PAGE  4096u
#define PAGES 2048u
#define SIZE  (PAGE * PAGES)

static long writes_left = -1; /* before the disk is full; -1: never */
static bool no_scan;          /* the kernel has no PAGEMAP_SCAN */
static bool no_pagemap;       /* nor lets pagemap be read */
static int pagemap_fd = -1;

ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __real_pread(int fd, void *data, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t len, off_t offset);
long __real_syscall(long number, long a, long b, void *c);
long __wrap_syscall(long number, long a, long b, void *c);

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (writes_left == 0) {
		errno = ENOSPC;
		return -1;
	}
	if (writes_left > 0)
		writes_left--;
	/* Sometimes less than was asked for, as a disk may. */
	return __real_pwrite(fd, data, len > 3 * PAGE ? len - PAGE : len, offset);
}

ssize_t __wrap_pread(int fd, void *data, size_t len, off_t offset)
{
	if (no_pagemap && fd == pagemap_fd) {
		errno = EPERM;
		return -1;
	}
	return __real_pread(fd, data, len, offset);
}

long __wrap_syscall(long number, long a, long b, void *c)
{
	if (number == SYS_ioctl && no_scan) {
		errno = ENOTTY;
		return -1;
	}
	return __real_syscall(number, a, b, c);
}

static int temp_file(void)
{
	char path[] = "/tmp/test_snapshot_memory.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void fill(uint8_t *page, unsigned seed)
{
	memset(page, (int)(seed % 255 + 1), PAGE);
	memcpy(page, &seed, sizeof(seed));
}

/* The file is the expected bytes, and no page of zeros takes up room beyond a run's blocks. */
static void expect_file(int fd, const uint8_t *expected)
{
	uint8_t *got = malloc(SIZE);
	struct stat st;
	unsigned data = 0;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(__real_pread(fd, got, SIZE, 0), SIZE);
	for (unsigned i = 0; i < PAGES; i++) {
		if (memcmp(got + i * PAGE, expected + i * PAGE, PAGE) != 0)
			fail_msg("page %u differs", i);
		for (unsigned at = 0; at < PAGE; at++) {
			if (expected[i * PAGE + at]) {
				data++;
				break;
			}
		}
	}
	/* Some file systems need blocks for their own map. */
	assert_true((uint64_t)st.st_blocks * 512 <= (uint64_t)data * PAGE + 64 * 1024);
	free(got);
}

static void digest_of(int fd, uint8_t digest[DIGEST_LEN])
{
	assert_int_equal(snapshot_memory_digest(fd, SIZE, "memory", digest), 0);
}

/* Writes m, checks bytes and digest, returns the file. */
static int save_and_check(const struct memory *m, const uint8_t *expected)
{
	uint8_t digest[DIGEST_LEN], again[DIGEST_LEN];
	int fd = temp_file(), full = temp_file();

	assert_int_equal(snapshot_memory_write(m, fd, digest), 0);
	expect_file(fd, expected);
	digest_of(fd, again);
	assert_memory_equal(digest, again, DIGEST_LEN);

	/* A copy without a hole has the same digest; one with a byte changed has not. */
	assert_int_equal(__real_pwrite(full, expected, SIZE, 0), SIZE);
	digest_of(full, again);
	assert_memory_equal(digest, again, DIGEST_LEN);
	assert_int_equal(__real_pwrite(full, "\x5a", 1, SIZE - 1), 1);
	digest_of(full, again);
	assert_memory_not_equal(digest, again, DIGEST_LEN);
	close(full);
	return fd;
}

static void test_shared(void **state)
{
	uint8_t *expected = calloc(1, SIZE);
	struct memory m;

	(void)state;
	assert_int_equal(memory_create(&m, SIZE), 0);
	for (unsigned i = 0; i < PAGES; i += i % 7 + 1)
		fill(m.base + i * PAGE, i);
	/* Touched, but zero: in the memfd, not in the file. */
	memset(m.base + 9 * PAGE, 0, PAGE);
	m.base[SIZE - 1] = 1;
	memcpy(expected, m.base, SIZE);
	close(save_and_check(&m, expected));
	free(expected);
	memory_destroy(&m);
}

static void test_shared_empty(void **state)
{
	uint8_t *expected = calloc(1, SIZE);
	struct memory m;

	(void)state;
	assert_int_equal(memory_create(&m, SIZE), 0);
	close(save_and_check(&m, expected));
	free(expected);
	memory_destroy(&m);
}

/* A snapshot's file with data in pages 0-9, 20, 21 and 1024-1124, then every 64th. */
static int make_base(void)
{
	uint8_t page[PAGE];
	int fd = temp_file();

	assert_int_equal(ftruncate(fd, SIZE), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		if (i < 10 || i == 20 || i == 21 || (i >= 1024 && i < 1125) || i % 64 == 63) {
			fill(page, i + 1000);
			assert_int_equal(__real_pwrite(fd, page, PAGE, (off_t)i * PAGE), PAGE);
		}
	}
	return fd;
}

/* Reads and writes every kind of page; expected is the outcome. */
static void touch(struct memory *m, uint8_t *expected)
{
	volatile uint8_t sum = 0;

	assert_int_equal(__real_pread(m->fd, expected, SIZE, 0), SIZE);
	/* Reads make pages present, not private: data and hole. */
	sum = (uint8_t)(sum + m->base[1 * PAGE] + m->base[15 * PAGE]);
	/* Over data, at its edges; over a hole; zeros over data; zeros over a hole. */
	static const unsigned written[] = { 0, 9, 10, 30, 31, 32, 1023, 1030, 1125, 2047 };

	for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		fill(expected + written[i] * PAGE, written[i]);
	for (unsigned i = 300; i < 900; i += 3) /* more runs than one scan returns */
		fill(expected + i * PAGE, i);
	memset(expected + 20 * PAGE, 0, PAGE);
	for (size_t i = 0; i < PAGES; i++)
		if (memcmp(m->base + i * PAGE, expected + i * PAGE, PAGE) != 0)
			memcpy(m->base + i * PAGE, expected + i * PAGE, PAGE);
	memset(m->base + 40 * PAGE, 0, PAGE);
}

static void check_cow(void)
{
	uint8_t *expected = malloc(SIZE);
	uint8_t before[DIGEST_LEN], after[DIGEST_LEN];
	struct memory m, second;
	int base = make_base(), fd;

	digest_of(base, before);
	assert_int_equal(memory_map_cow(&m, SIZE, base), 0);
	memory_open_pagemap(&m);
	assert_true(m.pagemap_fd >= 0);
	pagemap_fd = m.pagemap_fd;
	touch(&m, expected);
	fd = save_and_check(&m, expected);
	digest_of(base, after);
	assert_memory_equal(before, after, DIGEST_LEN);

	/* A clone of the clone, with pages of its own on top. */
	assert_int_equal(memory_map_cow(&second, SIZE, fd), 0);
	memory_open_pagemap(&second);
	pagemap_fd = second.pagemap_fd;
	fill(second.base + 50 * PAGE, 5);
	fill(expected + 50 * PAGE, 5);
	close(save_and_check(&second, expected));
	memory_destroy(&second);
	memory_destroy(&m);
	pagemap_fd = -1;
	free(expected);
}

static void test_cow(void **state)
{
	(void)state;
	check_cow();
}

static void test_cow_by_entries(void **state)
{
	(void)state;
	no_scan = true;
	check_cow();
	no_scan = false;
}

static void test_cow_without_pagemap(void **state)
{
	(void)state;
	no_scan = no_pagemap = true;
	check_cow();
	no_scan = no_pagemap = false;
}

/* Both ways of asking find the same runs; pages only read are in none. */
static void test_private_runs(void **state)
{
	uint8_t *expected = malloc(SIZE);
	uint8_t marks[2][PAGES] = { { 0 } };
	struct memory m;

	(void)state;
	assert_int_equal(memory_map_cow(&m, SIZE, make_base()), 0);
	memory_open_pagemap(&m);
	touch(&m, expected);
	for (unsigned way = 0; way < 2; way++) {
		struct private_pages pages;
		struct private_run run;
		uint64_t last = 0;

		private_pages_init(&pages, &m);
		pages.no_ioctl = way == 1;
		while (private_pages_next(&pages, &run)) {
			assert_true(run.start >= last && run.end > run.start && run.end <= SIZE);
			last = run.end;
			memset(&marks[way][run.start / PAGE], 1, (run.end - run.start) / PAGE);
		}
	}
	assert_memory_equal(marks[0], marks[1], PAGES);
	assert_int_equal(marks[0][1], 0);
	assert_int_equal(marks[0][15], 0);
	assert_int_equal(marks[0][20], 1);
	assert_int_equal(marks[0][40], 1);
	memory_destroy(&m);
	free(expected);
}

static void test_disk_full(void **state)
{
	uint8_t digest[DIGEST_LEN];
	struct memory m;

	(void)state;
	assert_int_equal(memory_create(&m, SIZE), 0);
	for (unsigned i = 0; i < 100; i++)
		fill(m.base + 2 * i * PAGE, i);
	for (long left = 0; left < 100; left += 9) {
		int fd = temp_file();

		writes_left = left;
		assert_int_equal(snapshot_memory_write(&m, fd, digest), -ENOSPC);
		writes_left = -1;
		/* Not what was left when it failed, but all of it. */
		assert_non_null(strstr(error_text(), "400 KiB of guest memory"));
		assert_non_null(strstr(error_text(), strerror(ENOSPC)));
		close(fd);
	}
	memory_destroy(&m);
}

static void test_base_cut_short(void **state)
{
	uint8_t digest[DIGEST_LEN];
	struct memory m;
	int base = make_base(), fd = temp_file();

	(void)state;
	assert_int_equal(memory_map_cow(&m, SIZE, base), 0);
	m.base[0] = 1;
	assert_int_equal(ftruncate(base, 5 * PAGE), 0);
	/* What is past the end is neither data nor hole: it must not pass as zeros. */
	assert_int_equal(snapshot_memory_write(&m, fd, digest), -EIO);
	assert_non_null(strstr(error_text(), "cut short"));
	assert_int_equal(snapshot_memory_digest(base, SIZE, "d/memory", digest), -EIO);
	assert_non_null(strstr(error_text(), "d/memory"));
	close(fd);
	memory_destroy(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_shared_empty),
		cmocka_unit_test(test_cow),
		cmocka_unit_test(test_cow_by_entries),
		cmocka_unit_test(test_cow_without_pagemap),
		cmocka_unit_test(test_private_runs),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_base_cut_short),
	};

	return cmocka_run_group_tests_name("snapshot_memory", tests, NULL, NULL);
}
