/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cold boot from its parts: kernel, command line, initrd, ACPI tables, start
 * information. What each kind of kernel needs is in elf.c, bzimage.c, pvh.c, linux.c.
 */
#include "boot/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"

static int boot_write_cmdline(const struct memory *memory, const char *cmdline,
			      const struct boot_limits *limits, struct boot_info *info)
{
	size_t len = strlen(cmdline);

	if (len == 0)
		return 0;
	if (len > limits->cmdline_len)
		return failf(E2BIG,
			     "command line: %zu bytes, but this kernel takes %" PRIu64
			     ": shorten it by %" PRIu64,
			     len, limits->cmdline_len, len - limits->cmdline_len);
	info->cmdline = LAYOUT_CMDLINE;
	return memory_write(memory, LAYOUT_CMDLINE, cmdline, len + 1);
}

/* At the end of low RAM, away from where the kernel unpacks itself and grows. */
static int boot_place_initrd(const struct memory *memory, const struct image *initrd,
			     uint64_t kernel_end, const struct boot_limits *limits,
			     struct boot_info *info)
{
	uint64_t top = memory->regions[0].size;
	uint64_t start = (kernel_end + LAYOUT_PAGE_SIZE - 1) & ~(LAYOUT_PAGE_SIZE - 1ull);
	uint64_t size = (initrd->size + LAYOUT_PAGE_SIZE - 1) & ~(LAYOUT_PAGE_SIZE - 1ull);
	bool kernel_limit = limits->initrd_last < top;
	uint64_t room;

	if (kernel_limit)
		top = (limits->initrd_last + 1) & ~(LAYOUT_PAGE_SIZE - 1ull);
	room = top > start ? top - start : 0;
	if (size > room)
		return failf(ENOMEM,
			     "initrd %s: %zu bytes do not fit between the kernel's end (0x%" PRIx64
			     ") and 0x%" PRIx64 ": %" PRIu64 " bytes too many: %s",
			     initrd->name, initrd->size, start, top, size - room,
			     kernel_limit || top == LAYOUT_HOLE_START
				     ? "this kernel takes none higher up"
				     : "give the guest more with --memory");
	info->initrd = top - size;
	info->initrd_size = initrd->size;
	boot_copy(memory, info->initrd, initrd->data, initrd->size);
	return 0;
}

static int boot_load_kernel(const struct memory *memory, const struct image *kernel,
			    enum image_kind kind, struct boot_regs *regs, uint64_t *end)
{
	regs->entry = kind == IMAGE_ELF_PVH ? BOOT_ENTRY_PVH : BOOT_ENTRY_LINUX64;
	if (kind == IMAGE_BZIMAGE)
		return bzimage_load(memory, kernel, &regs->ip, end);
	return elf_load(memory, kernel, kind, &regs->ip, end);
}

int boot_load(const struct memory *memory, const struct boot_source *source, struct boot_regs *regs)
{
	struct boot_info info = { 0 };
	struct boot_limits limits;
	enum image_kind kind;
	uint64_t kernel_end;
	int ret;

	if (memory->regions[0].size <= LAYOUT_HIGH_RAM)
		return failf(EINVAL, "%" PRIu64 " bytes of memory are too few to boot in",
			     memory->size);
	ret = image_identify(source->kernel, &kind);
	if (ret == 0)
		ret = linux_limits(source->kernel, kind, &limits);
	if (ret == 0)
		ret = boot_load_kernel(memory, source->kernel, kind, regs, &kernel_end);
	if (ret == 0)
		ret = boot_write_cmdline(memory, source->cmdline, &limits, &info);
	if (ret == 0 && source->initrd)
		ret = boot_place_initrd(memory, source->initrd, kernel_end, &limits, &info);
	if (ret == 0)
		ret = acpi_write(memory, source);
	if (ret == 0)
		ret = boot_write_reset_vector(memory, source);
	if (ret < 0)
		return ret;
	if (kind == IMAGE_ELF_PVH)
		return pvh_write(memory, &info, &regs->info);
	return linux_write(memory, source->kernel, kind, &info, &regs->info);
}
