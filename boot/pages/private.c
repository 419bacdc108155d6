/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private pages by PAGEMAP_SCAN, or by reading pagemap entries where the kernel has
 * no such call (boot/pages/private.h).
 */
#include "boot/pages/private.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"

#define PRIVATE_PAGE    LAYOUT_PAGE_SIZE

/* Bits of an entry of /proc/PID/pagemap. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_FILE    (1ull << 61)

/* linux/fs.h of 6.7; older headers lack it. */
struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_FILE    (1ull << 2)
#define SCAN_PRESENT (1ull << 3)
#define SCAN_SWAPPED (1ull << 4)

void private_pages_init(struct private_pages *pages, const struct memory *m)
{
	*pages = (struct private_pages){ .m = m };
}

static void private_pages_add(struct private_pages *pages, uint64_t start, uint64_t end)
{
	struct private_run *last = pages->count ? &pages->runs[pages->count - 1] : NULL;

	if (last && last->end == start)
		last->end = end;
	else
		pages->runs[pages->count++] = (struct private_run){ start, end };
}

/* One call finds up to PRIVATE_RUNS_MAX runs. False when the kernel has no PAGEMAP_SCAN. */
static bool private_pages_scan(struct private_pages *pages)
{
	struct scan_region regions[PRIVATE_RUNS_MAX];
	uint64_t base = (uint64_t)(uintptr_t)pages->m->base;
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = base + pages->next,
		.end = base + pages->m->size,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = PRIVATE_RUNS_MAX,
		/* Not of a file, and either present or swapped out. */
		.category_inverted = SCAN_FILE,
		.category_mask = SCAN_FILE,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_FILE, /* never set in a match, so that neighbours are one run */
	};
	/* ioctl() itself: the C libraries differ in the type of its request. */
	long count = syscall(SYS_ioctl, pages->m->pagemap_fd, SCAN_IOCTL, &arg);

	if (count < 0 || arg.walk_end <= arg.start || arg.walk_end > arg.end)
		return false;
	for (long i = 0; i < count; i++)
		private_pages_add(pages, regions[i].start - base, regions[i].end - base);
	pages->next = arg.walk_end - base;
	return true;
}

/* Reads entries until the runs are full. False when they cannot be read. */
static bool private_pages_read(struct private_pages *pages)
{
	uint64_t entries[512];
	uint64_t first = (uint64_t)(uintptr_t)pages->m->base / PRIVATE_PAGE;

	while (pages->next < pages->m->size && pages->count < PRIVATE_RUNS_MAX) {
		uint64_t left = (pages->m->size - pages->next) / PRIVATE_PAGE;
		size_t want = left < 512 ? (size_t)left : 512;
		ssize_t got =
			pread(pages->m->pagemap_fd, entries, want * sizeof(entries[0]),
			      (off_t)((first + pages->next / PRIVATE_PAGE) * sizeof(entries[0])));

		if (got < (ssize_t)sizeof(entries[0]))
			return false;
		got /= (ssize_t)sizeof(entries[0]);
		for (ssize_t i = 0; i < got && pages->count < PRIVATE_RUNS_MAX; i++) {
			if (!(entries[i] & PAGEMAP_FILE) &&
			    (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
				private_pages_add(pages, pages->next, pages->next + PRIVATE_PAGE);
			pages->next += PRIVATE_PAGE;
		}
	}
	return true;
}

static void private_pages_fill(struct private_pages *pages)
{
	pages->count = 0;
	pages->at = 0;
	if (pages->m->pagemap_fd >= 0) {
		if (!pages->no_ioctl && private_pages_scan(pages))
			return;
		pages->no_ioctl = true;
		if (private_pages_read(pages))
			return;
	}
	notef("cannot tell which pages were written (no /proc/self/pagemap): reading all memory");
	private_pages_add(pages, pages->next, pages->m->size);
	pages->next = pages->m->size;
}

bool private_pages_next(struct private_pages *pages, struct private_run *run)
{
	while (pages->at == pages->count) {
		if (pages->next >= pages->m->size)
			return false;
		private_pages_fill(pages);
	}
	*run = pages->runs[pages->at++];
	return true;
}
