/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory beyond the 2 MiB that boot.S maps. Tables that the CPU does not know
 * yet are plain memory; linking them is one store (KVM watches tables in use).
 */
#include "arch/layout.h"
#include "devices/channel/protocol.h"
#include "guest/builtin/guest.h"
#include "guest/builtin/paging.h"

#define LARGE_PAGE   (2ull << 20)
#define WINDOW_LIMIT (1ull << 30)

/* PVH boot protocol: hvm_start_info version 1 and its memory map. */
struct pvh_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_count, reserved;
};

struct pvh_map_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

struct page_table {
	uint64_t entry[512];
} __attribute__((aligned(4096)));

static struct page_table window_pdpt, window_ram;

/* Bytes of RAM in all, and the end of the piece that holds this image, within the window. */
static uint64_t memory_scan(uint64_t info_address, uint64_t *end)
{
	const struct pvh_info *info = (const void *)info_address;
	const struct pvh_map_entry *map = (const void *)info->map;
	uint64_t total = 0;

	*end = (uint64_t)image_end;
	for (uint32_t i = 0; i < info->map_count; i++) {
		if (map[i].type != 1)
			continue;
		total += map[i].size;
		if (map[i].addr <= (uint64_t)image_end && map[i].addr + map[i].size > *end)
			*end = map[i].addr + map[i].size;
	}
	if (*end > WINDOW_LIMIT)
		*end = WINDOW_LIMIT;
	return total;
}

static void window_map(uint64_t end)
{
	for (uint64_t at = 0; at < end; at += LARGE_PAGE)
		window_ram.entry[at / LARGE_PAGE] = at | PAGING_LARGE;
	window_pdpt.entry[0] = (uint64_t)&window_ram | PAGING_TABLE;
	__atomic_store_n(&boot_pml4[GUEST_WINDOW >> 39], (uint64_t)&window_pdpt | PAGING_TABLE,
			 __ATOMIC_RELEASE);
}

void memory_init(struct guest_memory *memory, uint64_t info, uint64_t page_count)
{
	uint64_t end, at = (uint64_t)image_end, room;

	memory->ram_size = memory_scan(info, &end);
	window_map(end);
	end &= ~(uint64_t)(PAGE_SIZE - 1);

	/* A large machine has all; a small one gives half to messages, then what pages need. */
	room = (end - at) / 2 & ~(uint64_t)(PAGE_SIZE - 1);
	memory->message = (void *)(GUEST_WINDOW + at);
	memory->message_size = room < CHANNEL_PAYLOAD_MAX ? (uint32_t)room : CHANNEL_PAYLOAD_MAX;
	at += memory->message_size;
	room = (end - at) / PAGE_SIZE;
	memory->pages = (void *)(GUEST_WINDOW + at);
	memory->page_count = page_count < room ? page_count : room;
	at += memory->page_count * PAGE_SIZE;
	memory->scratch = (void *)(GUEST_WINDOW + at);
	memory->scratch_count = (end - at) / PAGE_SIZE;

	for (uint64_t i = 0; i < memory->page_count * (PAGE_SIZE / 8); i++)
		memory->pages[i] = memory_word(i);
}

volatile char *memory_link(const void *table)
{
	uint64_t last = sizeof(window_ram.entry) / sizeof(window_ram.entry[0]) - 1;
	uint64_t entry = physical(table) | PAGING_TABLE;

	if (table != NULL && window_ram.entry[last] != 0 && window_ram.entry[last] != entry)
		return NULL;
	/* A write to a table in use has KVM forget what it derived from it. */
	if (table != NULL && window_ram.entry[last] == 0)
		window_ram.entry[last] = entry;
	return (volatile char *)(GUEST_WINDOW + last * LARGE_PAGE);
}

const volatile struct identity *identity(void)
{
	return (const volatile void *)(uint64_t)LAYOUT_IDENTITY;
}
