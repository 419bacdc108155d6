/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start from files that the page cache does not hold: what the working set says will
 * be touched is read in a few large pieces, while KVM is set up, instead of a page at a
 * time as the guest comes by.
 */
#ifndef VIRGA_BOOT_PAGES_READ_AHEAD_H
#define VIRGA_BOOT_PAGES_READ_AHEAD_H

#include <stdbool.h>

#include "arch/memory.h"
#include "boot/pages/working_set.h"

/*
 * Whether the file behind m, the copy-on-write mapping of a snapshot, has to be read from the disk:
 * a few pages are looked at, a microsecond when they are there. If so, and with a working set,
 * begins to read. Before the guest's memory is written to. It is advice: never fails.
 */
bool read_ahead_if_cold(const struct working_set *ws, const struct memory *m);

#endif
