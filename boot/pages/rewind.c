/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewinding guest memory (boot/pages/rewind.h). The copy of a page that is private already
 * costs a hundredth of a fault, from a second mapping of the template: 256 pages take 18 us, by
 * pread(2) 47.
 */
#include "boot/pages/rewind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "boot/pages/private.h"

/* Linux 5.14; older headers lack it. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static bool rewind_has(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

static void rewind_set(uint64_t *bits, uint64_t page)
{
	bits[page / 64] |= 1ull << page % 64;
}

/* These pages will be written again. */
static void rewind_know(struct rewind *r, const struct working_set_run *run)
{
	for (uint32_t n = 0; n < run->count; n++)
		rewind_set(r->known, (uint64_t)run->page + n);
	/* Advice: without it the first copy of each faults. */
	madvise((void *)(uintptr_t)(r->view + (uint64_t)run->page * LAYOUT_PAGE_SIZE),
		(size_t)run->count * LAYOUT_PAGE_SIZE, MADV_POPULATE_READ);
}

int rewind_init(struct rewind *r, const struct memory *m, const struct working_set *ws)
{
	*r = (struct rewind){
		.words = (m->size / LAYOUT_PAGE_SIZE + 63) / 64,
		.size = m->size,
	};
	if (m->pagemap_fd < 0)
		return failf(ENOENT, "a machine cannot be reset without /proc/self/pagemap, which "
				     "tells what it wrote");
	r->known = calloc(r->words, sizeof(uint64_t));
	r->seen = calloc(r->words, sizeof(uint64_t));
	r->next = calloc(r->words, sizeof(uint64_t));
	r->watched = calloc(r->words, sizeof(uint64_t));
	if (!r->known || !r->seen || !r->next || !r->watched) {
		rewind_fini(r);
		return failf(ENOMEM, "out of memory");
	}
	r->view = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, m->fd, 0);
	if (r->view == MAP_FAILED) {
		r->view = NULL;
		rewind_fini(r);
		return failf(errno, "the template's memory cannot be mapped: %s", strerror(errno));
	}
	for (uint32_t i = 0; i < ws->count; i++)
		if (ws->runs[i].flags & WORKING_SET_WRITTEN)
			rewind_know(r, &ws->runs[i]);
	return 0;
}

void rewind_fini(struct rewind *r)
{
	if (r->view)
		munmap((void *)(uintptr_t)r->view, r->size);
	free(r->known);
	free(r->seen);
	free(r->next);
	free(r->watched);
	*r = (struct rewind){ 0 };
}

static void rewind_copy(const struct rewind *r, const struct memory *m, uint64_t start,
			uint64_t end)
{
	memcpy(m->base + start, r->view + start, end - start);
}

void rewind_watch(struct rewind *r, const uint64_t *pages, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		rewind_set(r->watched, pages[i]);
}

static int rewind_drop(const struct memory *m, uint64_t start, uint64_t end)
{
	if (madvise(m->base + start, end - start, MADV_DONTNEED) < 0)
		return failf(errno, "guest memory cannot be given back: %s", strerror(errno));
	return 0;
}

/* What was dropped last time and is private again will be so next time. */
static bool rewind_keeps(struct rewind *r, uint64_t page)
{
	if (rewind_has(r->known, page))
		return true;
	if (!rewind_has(r->seen, page))
		return false;
	rewind_set(r->known, page);
	return true;
}

/* A run of private pages, in stretches that are treated alike. */
static int rewind_run(struct rewind *r, const struct memory *m, const struct private_run *run)
{
	uint64_t page = run->start / LAYOUT_PAGE_SIZE, end = run->end / LAYOUT_PAGE_SIZE;
	int ret = 0;

	for (uint64_t i = page; i < end; i++)
		r->touched |= rewind_has(r->watched, i);
	while (ret == 0 && page < end) {
		uint64_t first = page;
		bool keep = rewind_keeps(r, page);

		while (page < end && rewind_keeps(r, page) == keep) {
			if (!keep)
				rewind_set(r->next, page);
			page++;
		}
		if (keep) {
			r->copied += page - first;
			rewind_copy(r, m, first * LAYOUT_PAGE_SIZE, page * LAYOUT_PAGE_SIZE);
		} else {
			r->dropped += page - first;
			ret = rewind_drop(m, first * LAYOUT_PAGE_SIZE, page * LAYOUT_PAGE_SIZE);
		}
	}
	return ret;
}

int rewind_memory(struct rewind *r, struct memory *m)
{
	uint64_t *seen = r->seen;
	struct private_pages pages;
	struct private_run run;
	int ret = 0;

	r->copied = r->dropped = 0;
	r->touched = false;
	memset(r->next, 0, r->words * sizeof(uint64_t));
	private_pages_init(&pages, m);
	while (ret == 0 && private_pages_next(&pages, &run))
		ret = rewind_run(r, m, &run);
	r->seen = r->next;
	r->next = seen;
	return ret;
}
