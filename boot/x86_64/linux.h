/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux/x86 boot protocol 2.12 and later (Documentation/arch/x86/boot.rst of
 * the kernel): the setup header of a bzImage, as far as a 64-bit entry needs it, and
 * the zero page. Offsets are those of the zero page and of the file alike.
 */
#ifndef VIRGA_BOOT_X86_64_LINUX_H
#define VIRGA_BOOT_X86_64_LINUX_H

#include <stdint.h>

#include "boot/boot.h"

#define LINUX_HEADER_OFFSET       0x1f1u
#define LINUX_HEADER_MAGIC_OFFSET 0x202u
#define LINUX_BOOT_FLAG           0xaa55u
#define LINUX_HEADER_MAGIC        0x53726448u /* "HdrS" */
#define LINUX_VERSION_MIN         0x20cu      /* first with xloadflags */
#define LINUX_LOADED_HIGH         0x01u       /* loadflags */
#define LINUX_KERNEL_64           0x0001u     /* xloadflags: has the 64-bit entry */
#define LINUX_ENTRY_64            0x200u      /* from the start of the protected-mode kernel */
#define LINUX_SECTOR              512u
#define LINUX_SETUP_SECTS_DEFAULT 4u
#define LINUX_LOADER_UNDEFINED    0xffu /* type_of_loader of one that has no number */

struct linux_header {
	uint8_t setup_sects;
	uint8_t unused0[2];
	uint32_t syssize; /* of the protected-mode kernel, 16 bytes each */
	uint8_t unused1[6];
	uint16_t boot_flag;
	uint8_t jump;
	uint8_t jump_offset; /* the header ends this far behind the magic's place */
	uint32_t magic;
	uint16_t version;
	uint8_t unused2[8];
	uint8_t type_of_loader;
	uint8_t loadflags;
	uint8_t unused3[6];
	uint32_t ramdisk_image;
	uint32_t ramdisk_size;
	uint8_t unused4[8];
	uint32_t cmd_line_ptr;
	uint32_t initrd_addr_max; /* last address an initrd may touch */
	uint32_t kernel_alignment;
	uint8_t relocatable_kernel;
	uint8_t min_alignment;
	uint16_t xloadflags;
	uint32_t cmdline_size; /* without the NUL */
	uint8_t unused5[28];
	uint64_t pref_address;
	uint32_t init_size; /* bytes it needs from where it starts until it reads the memory map */
	uint32_t handover_offset;
} __attribute__((packed));

_Static_assert(sizeof(struct linux_header) == 0x268 - LINUX_HEADER_OFFSET, "setup header");

struct linux_e820_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
} __attribute__((packed));

/* What is not named stays zero: no screen, no disks, no EFI. */
struct linux_zero_page {
	uint8_t unused0[0x70];
	uint64_t acpi_rsdp_addr;
	uint8_t unused1[0x1e8 - 0x78];
	uint8_t e820_entries;
	uint8_t unused2[LINUX_HEADER_OFFSET - 0x1e9];
	struct linux_header header;
	uint8_t unused3[0x2d0 - 0x268];
	struct linux_e820_entry e820[128];
	uint8_t unused4[0x1000 - 0xcd0];
} __attribute__((packed));

_Static_assert(sizeof(struct linux_zero_page) == 4096, "zero page");

/* Reads and checks a bzImage's header against its file. 0 or -ENOEXEC with a sentence. */
int bzimage_header(const struct image *image, struct linux_header *header);

#endif
