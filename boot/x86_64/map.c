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
 * jumps to the firmware's reset vector in real mode. There lies the register's use.
 */
int boot_write_reset_vector(const struct memory *memory)
{
	const uint16_t port = LAYOUT_PORT_POWER + LAYOUT_POWER_RESET;
	/* mov al, value; mov dx, port; out dx, al; hlt */
	const uint8_t code[] = {
		0xb0, LAYOUT_POWER_RESET_VALUE, 0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xee,
		0xf4,
	};

	return memory_write(memory, LAYOUT_RESET_VECTOR, code, sizeof(code));
}
