/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers an access by port or by address. arch/ knows devices only through
 * bus_io; ranges are claimed while the machine is built and never move.
 */
#ifndef VIRGA_ARCH_BUS_H
#define VIRGA_ARCH_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_RANGES_MAX 48

/*
 * Answers one access of len bytes (1, 2, 4 or 8) at offset from the range's base; data points to
 * len bytes, to fill or to take. Runs on a vCPU thread under the VM lock.
 */
typedef void (*bus_handler)(void *opaque, uint64_t offset, void *data, unsigned len, bool write);

struct bus_range {
	uint64_t base;
	uint64_t size;
	bus_handler io;
	void *opaque;
	const char *name; /* for sentences; outlives the bus */
};

struct bus {
	unsigned count;
	struct bus_range ranges[BUS_RANGES_MAX];
	uint64_t unclaimed; /* accesses that nobody answered */
};

/* Claims [base, base+size). -EEXIST with a sentence when it overlaps, -ENOSPC when full. */
int bus_claim(struct bus *b, uint64_t base, uint64_t size, bus_handler io, void *opaque,
	      const char *name);

/* Dispatches; an access nobody answers reads as all ones, is counted, and returns false. */
bool bus_io(struct bus *b, uint64_t addr, void *data, unsigned len, bool write);

#endif
