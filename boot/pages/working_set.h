/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `working-set` of a snapshot: which pages of guest memory a clone touches
 * between its start and its first answer, so that a start can fetch them in bulk
 * instead of one fault at a time. It is advice: a snapshot without it is as good,
 * only slower. Format: docs/snapshot.md.
 */
#ifndef VIRGA_BOOT_PAGES_WORKING_SET_H
#define VIRGA_BOOT_PAGES_WORKING_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"
#include "arch/vm.h"

#define WORKING_SET_MAGIC     0x0a53574152495676ull /* on disk: never change */
#define WORKING_SET_VERSION   1u
#define WORKING_SET_RUNS_MAX  (1u << 20)
#define WORKING_SET_SIZE_MAX  (64u + 16u * WORKING_SET_RUNS_MAX)

/* Pages that a start fetches in bulk, whatever the file says: 128 MiB. More are left to faults. */
#define WORKING_SET_PAGES_MAX (32u << 10)

#define WORKING_SET_WRITTEN   1u /* flag of a run: its pages are written; else only read */

/* Neighbouring pages of one kind. Page numbers are offsets in `memory` / 4096. */
struct working_set_run {
	uint32_t page;
	uint32_t count;
	uint32_t rank; /* how many pages had been touched before the first of these was */
	uint32_t flags;
};

/* Zeroed: no working set. Runs ascend by page and do not overlap. */
struct working_set {
	struct working_set_run *runs; /* owned */
	uint32_t count;
	uint32_t trials; /* trial clones it was learnt from */
	uint32_t written_pages;
	uint32_t read_pages;
};

/*
 * Reads the bytes of a file; of more than WORKING_SET_PAGES_MAX pages those touched first. name is for
 * sentences; state_checksum and memory_size are those of the snapshot that it must belong to. 0 or
 * -errno with a sentence; working_set_fini() after success.
 */
int working_set_parse(struct working_set *ws, const char *name, const void *data, size_t len,
		      uint64_t state_checksum, uint64_t memory_size);

/* The bytes of a file. 0 or -ENOMEM with a sentence; blob_fini(out) in either case. */
int working_set_encode(const struct working_set *ws, uint64_t state_checksum, struct blob *out);

/* Counts the pages of the runs, written and read. */
void working_set_count(struct working_set *ws);

/*
 * Asks the kernel to keep in huge pages what is only read of the file behind m, for as long as it
 * caches it: one fault of a start then maps 2 MiB. tmpfs and memfds can (Linux 6.1). How many
 * stretches of 2 MiB it did, of WORKING_SET_PAGES_MAX pages at most.
 */
unsigned working_set_collapse(const struct working_set *ws, const struct memory *m);

void working_set_fini(struct working_set *ws);

/*
 * Copies the pages that the guest will write, in bulk. m is the copy-on-write mapping of the
 * snapshot. False when the kernel does not (Linux before 5.14, or no memory): page faults are left.
 */
bool working_set_populate(const struct working_set *ws, const struct memory *m);

/*
 * After working_set_populate() and with vCPU 0 loaded: enters all pages in KVM's second-level
 * tables, those that are copied for writing. False when this KVM cannot (before Linux 6.11,
 * shadow paging).
 */
bool working_set_prefault(const struct working_set *ws, struct vm *vm);

#endif
