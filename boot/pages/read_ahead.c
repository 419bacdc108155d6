/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading ahead of a cold start (boot/pages/read_ahead.h).
 */
#include "boot/pages/read_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "arch/layout.h"

#define PAGE       LAYOUT_PAGE_SIZE
/* Between two runs these are read along: 2 us each, and one more request is 20 or more. */
#define GAP_PAGES  16u
/* From the head of a longer run the kernel's own reading ahead goes on, in larger folios. */
#define RUN_PAGES  256u
/* The kernel reads no more for one call than the device takes in one request: 128 KiB at least. */
#define CALL_PAGES 32u

/* Asks for a byte if it is there. Where the file system cannot be asked so, it is taken to be. */
static bool read_ahead_misses(const struct memory *m, uint64_t page)
{
	char byte;
	const struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	/* preadv2(), which musl lacks */
	return syscall(SYS_preadv2, m->fd, &iov, 1, page * PAGE, 0, RWF_NOWAIT) < 0 &&
	       errno == EAGAIN;
}

/*
 * The first, the middle and the last run, because memory that is short goes page by page; without a
 * working set the page that every clone writes.
 */
static bool read_ahead_is_cold(const struct working_set *ws, const struct memory *m)
{
	if (!ws->count)
		return read_ahead_misses(m, LAYOUT_IDENTITY / PAGE);
	return read_ahead_misses(m, ws->runs[0].page) ||
	       read_ahead_misses(m, ws->runs[ws->count / 2].page) ||
	       read_ahead_misses(m, ws->runs[ws->count - 1].page);
}

/* Pages [start, end) of the file; the calls return before the disk has answered. */
static void read_ahead_range(const struct memory *m, uint64_t start, uint64_t end)
{
	for (; start < end; start += CALL_PAGES)
		posix_fadvise(m->fd, (off_t)(start * PAGE),
			      (off_t)((end - start < CALL_PAGES ? end - start : CALL_PAGES) * PAGE),
			      POSIX_FADV_WILLNEED);
}

bool read_ahead_if_cold(const struct working_set *ws, const struct memory *m)
{
	uint64_t start = 0, end = 0;

	if (!read_ahead_is_cold(ws, m))
		return false;
	for (uint32_t i = 0; i < ws->count; i++) {
		const struct working_set_run *run = &ws->runs[i];

		if (run->page > end + GAP_PAGES) {
			read_ahead_range(m, start, end);
			start = run->page;
		}
		end = run->page + (uint64_t)(run->count < RUN_PAGES ? run->count : RUN_PAGES);
	}
	read_ahead_range(m, start, end);
	return true;
}
