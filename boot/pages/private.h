/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of copy-on-write memory this process has written: those that are
 * anonymous now, in memory or swapped out (Linux, admin-guide/mm/pagemap.rst).
 */
#ifndef VIRGA_BOOT_PAGES_PRIVATE_H
#define VIRGA_BOOT_PAGES_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/memory.h"

#define PRIVATE_RUNS_MAX 64

/* A run of pages; offsets from memory.base. */
struct private_run {
	uint64_t start;
	uint64_t end;
};

/* A walk over m; plain data, nothing to free. */
struct private_pages {
	const struct memory *m;
	uint64_t next; /* offset up to which memory was looked at */
	bool no_ioctl; /* PAGEMAP_SCAN (Linux 6.7) is not there: read the entries */
	unsigned count;
	unsigned at;
	struct private_run runs[PRIVATE_RUNS_MAX];
};

/* Starts at offset 0. m is copy-on-write and was mapped by this process. */
void private_pages_init(struct private_pages *pages, const struct memory *m);

/*
 * The next run, ascending; false when there is none left. Opens nothing: it asks m->pagemap_fd.
 * Without an answer all memory counts as written, which is slow but right, and is said.
 */
bool private_pages_next(struct private_pages *pages, struct private_run *run);

#endif
