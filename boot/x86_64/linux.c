/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zero page of the Linux 64-bit boot protocol (boot/x86_64/linux.h), for bzImage and
 * for an ELF vmlinux, which has no header of its own to copy.
 */
#include "boot/x86_64/linux.h"

#include <string.h>

#include "arch/base/error.h"
#include "arch/x86_64/layout.h"

/* Of every x86 Linux; a bzImage says its own. Longer ones are cut without a word. */
#define LINUX_COMMAND_LINE_MAX  2047u
#define LINUX_INITRD_LAST       0x7fffffffu
#define LINUX_VMLINUX_VERSION   0x20fu
#define LINUX_VMLINUX_ALIGNMENT 0x200000u

static int linux_header(const struct image *kernel, enum image_kind kind, struct linux_header *h)
{
	if (kind == IMAGE_BZIMAGE)
		return bzimage_header(kernel, h);
	*h = (struct linux_header){
		.boot_flag = LINUX_BOOT_FLAG,
		.magic = LINUX_HEADER_MAGIC,
		.version = LINUX_VMLINUX_VERSION,
		.loadflags = LINUX_LOADED_HIGH,
		.xloadflags = LINUX_KERNEL_64,
		.kernel_alignment = LINUX_VMLINUX_ALIGNMENT,
		.initrd_addr_max = LINUX_INITRD_LAST,
		.cmdline_size = LINUX_COMMAND_LINE_MAX,
	};
	return 0;
}

int linux_limits(const struct image *kernel, enum image_kind kind, struct boot_limits *limits)
{
	struct linux_header header;
	int ret;

	/* PVH names no limits, and who boots by it need not be Linux. */
	*limits = (struct boot_limits){ LAYOUT_CMDLINE_MAX - 1, LAYOUT_HOLE_START - 1 };
	if (kind == IMAGE_ELF_PVH) {
		if (image_is_linux(kernel))
			limits->cmdline_len = LINUX_COMMAND_LINE_MAX;
		return 0;
	}
	ret = linux_header(kernel, kind, &header);
	if (ret < 0)
		return ret;
	if (header.cmdline_size < limits->cmdline_len)
		limits->cmdline_len = header.cmdline_size;
	if (header.initrd_addr_max < limits->initrd_last)
		limits->initrd_last = header.initrd_addr_max;
	return 0;
}

static void linux_fill_map(const struct memory *memory, struct linux_zero_page *page)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	unsigned count = boot_memory_map(memory, map);

	for (unsigned i = 0; i < count; i++)
		page->e820[i] = (struct linux_e820_entry){ .addr = map[i].addr,
							   .size = map[i].size,
							   .type = map[i].type };
	page->e820_entries = (uint8_t)count;
}

int linux_write(const struct memory *memory, const struct image *kernel, enum image_kind kind,
		const struct boot_info *info, uint64_t *gpa)
{
	struct linux_zero_page page = { .acpi_rsdp_addr = LAYOUT_ACPI };
	struct linux_header *h = &page.header;
	int ret = linux_header(kernel, kind, h);

	if (ret < 0)
		return ret;
	h->type_of_loader = LINUX_LOADER_UNDEFINED;
	h->loadflags = LINUX_LOADED_HIGH;
	h->cmd_line_ptr = (uint32_t)info->cmdline;
	h->ramdisk_image = (uint32_t)info->initrd;
	h->ramdisk_size = (uint32_t)info->initrd_size;
	linux_fill_map(memory, &page);
	*gpa = LAYOUT_ZERO_PAGE;
	return memory_write(memory, *gpa, &page, sizeof(page));
}
