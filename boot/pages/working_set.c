/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `working-set` (boot/pages/working_set.h): checked byte by byte, then applied.
 */
#include "boot/pages/working_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/base/digest.h"
#include "arch/base/error.h"
#include "arch/layout.h"

/* Linux 5.14; older headers lack it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Linux 6.1 */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HEADER_LEN         40u
#define RUN_LEN            16u
#define CHECKSUM_LEN       8u

/* Pages that are only read, in a huge page. For fewer a clone that writes beside them pays more. */
#define COLLAPSE_READS_MIN 8u

/* --- The file --- */

static int working_set_damaged(const char *name, const char *what)
{
	return failf(EINVAL,
		     "%s: is damaged: %s; remove it, the snapshot is as good without, or build the "
		     "template again",
		     name, what);
}

/* The runs ascend, do not overlap and lie in memory. */
static bool working_set_valid(const struct working_set *ws, uint64_t pages)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < ws->count; i++) {
		const struct working_set_run *run = &ws->runs[i];

		if (run->count == 0 || run->page < end || run->flags & ~WORKING_SET_WRITTEN)
			return false;
		end = (uint64_t)run->page + run->count;
		if (end > pages)
			return false;
	}
	return true;
}

void working_set_count(struct working_set *ws)
{
	ws->written_pages = ws->read_pages = 0;
	for (uint32_t i = 0; i < ws->count; i++) {
		if (ws->runs[i].flags & WORKING_SET_WRITTEN)
			ws->written_pages += ws->runs[i].count;
		else
			ws->read_pages += ws->runs[i].count;
	}
}

/*
 * An archive may say that all of a large memory is written: each start would copy it, before a guest has
 * touched a page.
 */
static void working_set_cut(struct working_set *ws)
{
	uint32_t left = WORKING_SET_PAGES_MAX, kept = 0;

	if (ws->written_pages + ws->read_pages <= left)
		return;
	for (uint32_t i = 0; i < ws->count && left; i++) {
		struct working_set_run run = ws->runs[i];

		if (run.rank >= WORKING_SET_PAGES_MAX)
			continue;
		run.count = run.count < left ? run.count : left;
		left -= run.count;
		ws->runs[kept++] = run;
	}
	ws->count = kept;
	working_set_count(ws);
}

static int working_set_read_runs(struct working_set *ws, struct blob *in)
{
	_Static_assert(sizeof(struct working_set_run) == RUN_LEN, "runs are read as they lie");
	size_t len = (size_t)ws->count * RUN_LEN;

	ws->runs = malloc(len + 1);
	if (!ws->runs)
		return failf(ENOMEM, "out of memory for a working set of %u runs", ws->count);
	blob_get(in, ws->runs, len);
	working_set_count(ws);
	return 0;
}

int working_set_parse(struct working_set *ws, const char *name, const void *data, size_t len,
		      uint64_t state_checksum, uint64_t memory_size)
{
	struct blob in = blob_reader(data, len);
	uint64_t magic = blob_get_u64(&in), bound;
	uint32_t version = blob_get_u32(&in), page_size = blob_get_u32(&in);
	uint64_t reserved, sum;
	int ret;

	*ws = (struct working_set){ 0 };
	if (len < HEADER_LEN + CHECKSUM_LEN)
		return working_set_damaged(name, "it is too short");
	if (magic != WORKING_SET_MAGIC)
		return working_set_damaged(name, "it does not begin as a working set does");
	memcpy(&sum, (const uint8_t *)data + len - CHECKSUM_LEN, CHECKSUM_LEN);
	if (sum != digest64(data, len - CHECKSUM_LEN))
		return working_set_damaged(name, "its checksum does not fit its content");
	if (version != WORKING_SET_VERSION)
		return failf(EINVAL, "%s: has version %u; this virga reads version %u; remove it",
			     name, version, WORKING_SET_VERSION);
	ws->count = blob_get_u32(&in);
	ws->trials = blob_get_u32(&in);
	reserved = blob_get_u64(&in);
	bound = blob_get_u64(&in);
	if (page_size != LAYOUT_PAGE_SIZE || reserved ||
	    len != HEADER_LEN + CHECKSUM_LEN + (uint64_t)ws->count * RUN_LEN)
		return working_set_damaged(name, "its header makes no sense");
	if (bound != state_checksum)
		return failf(EINVAL,
			     "%s: belongs to another snapshot; remove it or put the right "
			     "one back",
			     name);
	ret = working_set_read_runs(ws, &in);
	if (ret == 0 && !working_set_valid(ws, memory_size / LAYOUT_PAGE_SIZE)) {
		working_set_fini(ws);
		ret = working_set_damaged(name, "its pages are not those of this memory");
	}
	if (ret == 0)
		working_set_cut(ws);
	return ret;
}

int working_set_encode(const struct working_set *ws, uint64_t state_checksum, struct blob *out)
{
	*out = (struct blob){ 0 };
	blob_put_u64(out, WORKING_SET_MAGIC);
	blob_put_u32(out, WORKING_SET_VERSION);
	blob_put_u32(out, LAYOUT_PAGE_SIZE);
	blob_put_u32(out, ws->count);
	blob_put_u32(out, ws->trials);
	blob_put_u64(out, 0);
	blob_put_u64(out, state_checksum);
	blob_put(out, ws->runs, (size_t)ws->count * RUN_LEN);
	if (!out->failed)
		blob_put_u64(out, digest64(out->data, out->len));
	return out->failed ? failf(ENOMEM, "out of memory for a working set") : 0;
}

void working_set_fini(struct working_set *ws)
{
	free(ws->runs);
	*ws = (struct working_set){ 0 };
}

/* --- When it was learnt --- */

/*
 * How many of these pages are in the set and only read. *at is the first run that may have some of them;
 * it moves on, so that all stretches of memory in turn cost one pass.
 */
static uint64_t working_set_reads(const struct working_set *ws, uint32_t *at, uint64_t first,
				  uint64_t end)
{
	uint64_t count = 0;

	for (; *at < ws->count && ws->runs[*at].page < end; (*at)++) {
		uint64_t from = ws->runs[*at].page, to = from + ws->runs[*at].count;

		if (!(ws->runs[*at].flags & WORKING_SET_WRITTEN)) {
			uint64_t low = from > first ? from : first, high = to < end ? to : end;

			count += high > low ? high - low : 0;
		}
		if (to > end)
			break;
	}
	return count;
}

unsigned working_set_collapse(const struct working_set *ws, const struct memory *m)
{
	const uint64_t len = MEMORY_ALIGNMENT, pages = len / LAYOUT_PAGE_SIZE;
	unsigned count = 0;
	uint32_t run = 0;

	for (uint64_t at = 0; at + len <= m->size && count * pages < WORKING_SET_PAGES_MAX;
	     at += len) {
		uint64_t first = at / LAYOUT_PAGE_SIZE;

		if (working_set_reads(ws, &run, first, first + pages) >= COLLAPSE_READS_MIN)
			count += madvise(m->base + at, len, MADV_COLLAPSE) == 0;
	}
	return count;
}

/* --- Before the first instruction --- */

/*
 * The copies are worth most: a page that the guest writes costs a fault, a copy and often a second
 * fault where it was read before. Pages that are only read are left to working_set_prefault() or to
 * the guest: mapping them here (MADV_POPULATE_READ) costs as much as the faults that it saves.
 */
bool working_set_populate(const struct working_set *ws, const struct memory *m)
{
	for (uint32_t i = 0; i < ws->count; i++) {
		const struct working_set_run *run = &ws->runs[i];

		if (run->flags & WORKING_SET_WRITTEN &&
		    madvise(m->base + (uint64_t)run->page * LAYOUT_PAGE_SIZE,
			    (size_t)run->count * LAYOUT_PAGE_SIZE, MADV_POPULATE_WRITE) < 0)
			return false;
	}
	return true;
}

bool working_set_prefault(const struct working_set *ws, struct vm *vm)
{
	for (uint32_t i = 0; i < ws->count;) {
		uint64_t page = ws->runs[i].page, end = page;

		/* Neighbours of both kinds are one call. */
		for (; i < ws->count && ws->runs[i].page == end; i++)
			end += ws->runs[i].count;
		if (vm_prefault(vm, page * LAYOUT_PAGE_SIZE, (end - page) * LAYOUT_PAGE_SIZE) < 0)
			return false;
	}
	return true;
}
