/* SPDX-License-Identifier: Apache-2.0 */
/* What the PVH boot protocol hands over: prints command line and memory map. */
#include "tests/guest/guest.h"

static void map_print(const struct pvh_map_entry *map, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bounds[2] = { __builtin_bswap64(map[i].addr),
				       __builtin_bswap64(map[i].addr + map[i].size) };

		print("map ");
		print_hex(&bounds[0], 8);
		print(" ");
		print_hex(&bounds[1], 8);
		print(" ");
		print_number(map[i].type);
		print("\n");
		if (i > 0 && map[i].addr < map[i - 1].addr + map[i - 1].size)
			fail("the memory map is not in order");
	}
}

void guest_main(const struct pvh_info *info)
{
	const uint8_t *rsdp = (const void *)info->rsdp;
	uint8_t sum = 0;

	if (info->magic != PVH_MAGIC || info->version < 1)
		fail("hvm_start_info");
	print("cmdline [");
	print(info->cmdline != 0 ? (const char *)info->cmdline : "");
	print("]\n");
	map_print((const void *)info->map, info->map_count);
	if (*(const volatile uint64_t *)rsdp != 0x2052545020445352ull) /* "RSD PTR " */
		fail("there is no RSDP");
	for (unsigned i = 0; i < 36; i++)
		sum = (uint8_t)(sum + rsdp[i]);
	if (sum != 0)
		fail("the RSDP's checksum");
	if (info->module_count > 0) {
		const uint64_t *module = (const void *)info->modules;

		print("module of ");
		print_number(module[1]);
		print(" bytes\n");
	}
	success();
}
