/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies where in a PC's memory before the guest runs: the memory map that every boot protocol
 * tells, and the few bytes of firmware that a guest may jump to.
 */
#include "arch/x86_64/layout.h"
#include "boot/boot.h"

unsigned boot_memory_map(const struct memory *memory, struct memory_map_entry map[MEMORY_MAP_MAX])
{
	unsigned count = 0;

	map[count++] = (struct memory_map_entry){ 0, LAYOUT_LOW_RAM_END, MEMORY_MAP_RAM };
	map[count++] =
		(struct memory_map_entry){ LAYOUT_LOW_RAM_END, LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END,
					   MEMORY_MAP_RESERVED };
	map[count++] = (struct memory_map_entry){ LAYOUT_HIGH_RAM,
						  memory->regions[0].size - LAYOUT_HIGH_RAM,
						  MEMORY_MAP_RAM };
	for (unsigned i = 1; i < memory->region_count; i++)
		map[count++] = (struct memory_map_entry){ memory->regions[i].gpa,
							  memory->regions[i].size, MEMORY_MAP_RAM };
	return count;
}

/*
 * Linux never uses the reset register of a hardware-reduced machine: it asks EFI, and without EFI
 * jumps to the firmware's reset vector in real mode. There lies the register's use, or without one
 * only the end: it stands still with interrupts off.
 */
int boot_write_reset_vector(const struct memory *memory, const struct boot_source *source)
{
	const struct device_power *power = devices_power(source->devices);
	/* mov al, value; mov dx, port; out dx, al; cli; hlt */
	uint8_t code[] = { 0xb0, 0, 0xba, 0, 0, 0xee, 0xfa, 0xf4 };
	const unsigned skipped = power ? 0 : 6;

	if (power) {
		code[1] = power->reset_value;
		code[3] = (uint8_t)power->reset;
		code[4] = (uint8_t)(power->reset >> 8);
	}
	return memory_write(memory, LAYOUT_RESET_VECTOR, code + skipped, sizeof(code) - skipped);
}
