/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What trial clones touched, page by page, in order of first touch; from it comes a
 * working set (boot/pages/working_set.h). Who finds out what they touch is another's matter
 * (serve/template/trial.h).
 */
#ifndef VIRGA_BOOT_PAGES_TRACE_H
#define VIRGA_BOOT_PAGES_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/pages/working_set.h"

struct page_trace {
	uint32_t *pages; /* owned; per page: rank + 1, and PAGE_TRACE_WRITTEN; 0: not touched */
	uint64_t count;  /* of pages in memory */
	uint32_t touched;
	uint32_t trials; /* counted by the owner */
};

/* For memory of that size. 0 or -errno with a sentence; page_trace_fini() after success. */
int page_trace_init(struct page_trace *trace, uint64_t memory_size);
void page_trace_fini(struct page_trace *trace);

/* A page was read or written; one beyond memory is ignored. Written stays written. */
void page_trace_touch(struct page_trace *trace, uint64_t page, bool written);

/* The working set of all that was touched. 0 or -errno, sentence; working_set_fini() it. */
int page_trace_working_set(const struct page_trace *trace, struct working_set *ws);

#endif
