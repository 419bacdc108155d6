/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch of port and MMIO accesses (arch/bus.h). A handful of ranges: a linear
 * walk beats anything cleverer.
 */
#include "arch/bus.h"

#include <errno.h>
#include <string.h>

#include "arch/base/error.h"

int bus_claim(struct bus *b, uint64_t base, uint64_t size, bus_handler io, void *opaque,
	      const char *name)
{
	if (b->count == BUS_RANGES_MAX)
		return failf(ENOSPC, "%s: no room for another address range", name);
	for (unsigned i = 0; i < b->count; i++) {
		const struct bus_range *r = &b->ranges[i];

		if (base < r->base + r->size && r->base < base + size)
			return failf(EEXIST, "%s and %s claim the same address 0x%llx", name,
				     r->name, (unsigned long long)base);
	}
	b->ranges[b->count++] = (struct bus_range){
		.base = base, .size = size, .io = io, .opaque = opaque, .name = name
	};
	return 0;
}

bool bus_io(struct bus *b, uint64_t addr, void *data, unsigned len, bool write)
{
	for (unsigned i = 0; i < b->count; i++) {
		const struct bus_range *r = &b->ranges[i];

		if (addr >= r->base && addr - r->base < r->size &&
		    len <= r->size - (addr - r->base)) {
			r->io(r->opaque, addr - r->base, data, len, write);
			return true;
		}
	}
	b->unclaimed++;
	if (!write)
		memset(data, 0xff, len);
	return false;
}
