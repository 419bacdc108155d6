/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and reads memory above 4 GiB; wants 6 GiB. */
#include "tests/guest/guest.h"

#define GIB (1ull << 30)

static void pattern_check(uint64_t from, uint64_t len, uint64_t step, const char *where)
{
	for (uint64_t at = from; at < from + len; at += step)
		*(volatile uint64_t *)at = at * 0x9e3779b97f4a7c15ull;
	for (uint64_t at = from; at < from + len; at += step) {
		if (*(volatile uint64_t *)at != at * 0x9e3779b97f4a7c15ull)
			fail(where);
	}
}

void guest_main(const struct pvh_info *info)
{
	const struct pvh_map_entry *map = (const void *)info->map;
	uint64_t total = 0, end_of_ram = 0;

	for (uint32_t i = 0; i < info->map_count; i++) {
		if (map[i].type != 1)
			continue;
		total += map[i].size;
		if (map[i].addr + map[i].size > end_of_ram)
			end_of_ram = map[i].addr + map[i].size;
	}
	/* The last 384 KiB of the first MiB are not RAM. */
	if (total != 6 * GIB - 0x60000)
		fail("the memory map does not hold 6 GiB");
	if (end_of_ram != 4 * GIB + 6 * GIB - LAYOUT_HOLE_START)
		fail("RAM above the hole does not end where it should");
	pattern_check(5 * GIB, 1 << 20, LAYOUT_PAGE_SIZE, "the pattern at 5 GiB");
	pattern_check(4 * GIB, 1 << 16, LAYOUT_PAGE_SIZE, "the first page above 4 GiB");
	pattern_check(end_of_ram - (1 << 16), 1 << 16, LAYOUT_PAGE_SIZE, "the last page of RAM");
	pattern_check(LAYOUT_HOLE_START - (1 << 16), 1 << 16, LAYOUT_PAGE_SIZE,
		      "the last page below the hole");
	/* Not the same memory twice. */
	*(volatile uint64_t *)(4 * GIB) = 1;
	*(volatile uint64_t *)(5 * GIB) = 2;
	*(volatile uint64_t *)(2 * GIB) = 3;
	if (*(volatile uint64_t *)(4 * GIB) != 1 || *(volatile uint64_t *)(5 * GIB) != 2)
		fail("two addresses are one");
	success();
}
