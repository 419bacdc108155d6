/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start information of a PVH entry, version 1 (Xen's public header
 * arch-x86/hvm/start_info.h): one page that names command line, initrd, memory map
 * and RSDP.
 */
#include "arch/x86_64/layout.h"
#include "boot/boot.h"

#define PVH_MAGIC   0x336ec578u
#define PVH_VERSION 1u

struct pvh_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t module_count;
	uint64_t modules;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t map;
	uint32_t map_count;
	uint32_t reserved;
};

struct pvh_module {
	uint64_t addr;
	uint64_t size;
	uint64_t cmdline;
	uint64_t reserved;
};

struct pvh_map_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

struct pvh_page {
	struct pvh_start_info info;
	struct pvh_module initrd;
	struct pvh_map_entry map[MEMORY_MAP_MAX];
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info, version 1");
_Static_assert(sizeof(struct pvh_map_entry) == 24, "hvm_memmap_table_entry");
_Static_assert(sizeof(struct pvh_page) <= LAYOUT_PAGE_SIZE, "one page");

int pvh_write(const struct memory *memory, const struct boot_info *info, uint64_t *gpa)
{
	struct pvh_page page = {
		.info = {
			.magic = PVH_MAGIC,
			.version = PVH_VERSION,
			.cmdline = info->cmdline,
			.rsdp = LAYOUT_ACPI,
			.map = LAYOUT_PVH_INFO + offsetof(struct pvh_page, map),
		},
	};
	struct memory_map_entry map[MEMORY_MAP_MAX];

	if (info->initrd) {
		page.info.module_count = 1;
		page.info.modules = LAYOUT_PVH_INFO + offsetof(struct pvh_page, initrd);
		page.initrd.addr = info->initrd;
		page.initrd.size = info->initrd_size;
	}
	page.info.map_count = boot_memory_map(memory, map);
	for (unsigned i = 0; i < page.info.map_count; i++)
		page.map[i] = (struct pvh_map_entry){ .addr = map[i].addr,
						      .size = map[i].size,
						      .type = map[i].type };
	*gpa = LAYOUT_PVH_INFO;
	return memory_write(memory, *gpa, &page, sizeof(page));
}
