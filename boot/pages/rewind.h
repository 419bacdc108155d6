/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory of a clone back to its template: every page that became private in this
 * process gets the template's bytes again. Pages that a request is known to write are copied in
 * place, so that the next one does not fault on them; the rest are dropped.
 */
#ifndef VIRGA_BOOT_PAGES_REWIND_H
#define VIRGA_BOOT_PAGES_REWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/memory.h"
#include "boot/pages/working_set.h"

/*
 * Which pages those are: the working set's, and what was private in two rewinds in a row. Zeroed:
 * empty. A bit for each page of memory.
 */
struct rewind {
	const uint8_t *view; /* mapped: the template, as long as memory */
	uint64_t size;       /* of it */
	uint64_t *known;     /* owned */
	uint64_t *seen;      /* owned: dropped by the last rewind */
	uint64_t *next;      /* owned: what `seen` becomes */
	uint64_t *watched;   /* owned: see rewind_watch() */
	bool touched;        /* by the last rewind: one of those was private */
	uint64_t words;      /* of 64 pages each */
	uint64_t copied;     /* pages, by the last rewind */
	uint64_t dropped;
};

/* m has its pagemap. 0, -ENOENT or -ENOMEM with a sentence. */
int rewind_init(struct rewind *r, const struct memory *m, const struct working_set *ws);
void rewind_fini(struct rewind *r);

/* Has rewind_memory() tell whether one of these pages was written. */
void rewind_watch(struct rewind *r, const uint64_t *pages, unsigned count);

/*
 * Does it. m is copy-on-write and the machine is paused. Opens nothing. 0, or -errno with a
 * sentence: then memory is neither the one nor the other, and the machine has to go.
 */
int rewind_memory(struct rewind *r, struct memory *m);

#endif
