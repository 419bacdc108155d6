/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trial clone: a clone that answers one request while this process notes which pages
 * of memory it touches. Its memory is empty at first; userfaultfd(2) tells of each first
 * touch, by the guest, by KVM or by virga itself, and the page is copied in then.
 */
#ifndef VIRGA_SERVE_TEMPLATE_TRIAL_H
#define VIRGA_SERVE_TEMPLATE_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/pages/trace.h"
#include "boot/snapshot/snapshot.h"

struct trial {
	struct snapshot *snapshot; /* opened, memory not taken */
	const void *request;
	size_t request_len;
	uint32_t timeout_ms;
	struct page_trace *trace; /* touches are added */
	bool exact;               /* out: by userfaultfd, not by what was left behind */
	bool error; /* out: the guest answered with an error; its sentence is stored */
};

/*
 * Runs it to its answer and ends it. Where userfaultfd is not permitted the pages are found in
 * /proc/self/pagemap at the end, in no order, and those that were only read only if the page cache
 * can be emptied of `memory` first. 0, or -errno with a sentence when there was no answer.
 */
int trial_run(struct trial *trial);

#endif
