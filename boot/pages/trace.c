/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One number for each page (boot/pages/trace.h).
 */
#include "boot/pages/trace.h"

#include <errno.h>
#include <stdlib.h>

#include "arch/base/error.h"
#include "arch/layout.h"

#define PAGE_TRACE_WRITTEN (1u << 31)

int page_trace_init(struct page_trace *trace, uint64_t memory_size)
{
	*trace = (struct page_trace){ .count = memory_size / LAYOUT_PAGE_SIZE };
	trace->pages = calloc((size_t)trace->count, sizeof(*trace->pages));
	return trace->pages ? 0 : failf(ENOMEM, "out of memory for the trace of a trial clone");
}

void page_trace_fini(struct page_trace *trace)
{
	free(trace->pages);
	*trace = (struct page_trace){ 0 };
}

void page_trace_touch(struct page_trace *trace, uint64_t page, bool written)
{
	if (page >= trace->count)
		return;
	if (!trace->pages[page])
		trace->pages[page] = ++trace->touched;
	if (written)
		trace->pages[page] |= PAGE_TRACE_WRITTEN;
}

/* Whether a page continues a run: the next one, of the same kind. */
static bool page_trace_continues(const struct working_set_run *run, uint64_t page, uint32_t flags)
{
	return (uint64_t)run->page + run->count == page && run->flags == flags;
}

/* Fills ws->runs, or only counts them when there is no room yet. */
static void page_trace_runs(const struct page_trace *trace, struct working_set *ws)
{
	struct working_set_run run = { 0 };

	ws->count = 0;
	for (uint64_t page = 0; page < trace->count; page++) {
		uint32_t entry = trace->pages[page];
		uint32_t flags = entry & PAGE_TRACE_WRITTEN ? WORKING_SET_WRITTEN : 0;
		uint32_t rank = (entry & ~PAGE_TRACE_WRITTEN) - 1;

		if (!entry)
			continue;
		if (ws->count && page_trace_continues(&run, page, flags)) {
			run.count++;
			run.rank = rank < run.rank ? rank : run.rank;
		} else {
			run = (struct working_set_run){ (uint32_t)page, 1, rank, flags };
			ws->count++;
		}
		if (ws->runs)
			ws->runs[ws->count - 1] = run;
	}
}

int page_trace_working_set(const struct page_trace *trace, struct working_set *ws)
{
	*ws = (struct working_set){ .trials = trace->trials };
	page_trace_runs(trace, ws);
	if (ws->count > WORKING_SET_RUNS_MAX)
		return failf(E2BIG, "a working set of %u runs is more than %u", ws->count,
			     WORKING_SET_RUNS_MAX);
	ws->runs = malloc((size_t)ws->count * sizeof(*ws->runs) + 1);
	if (!ws->runs)
		return failf(ENOMEM, "out of memory for a working set of %u runs", ws->count);
	page_trace_runs(trace, ws);
	working_set_count(ws);
	return 0;
}
