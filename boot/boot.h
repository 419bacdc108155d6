/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cold boot: puts a kernel, its initrd, command line, memory map and ACPI tables
 * into guest memory and says how vCPU 0 enters. Kinds of kernel: bzImage (64-bit
 * entry), ELF with a PVH note, ELF64 by the Linux 64-bit boot protocol. Every
 * length and address of an image is checked against the file and guest memory.
 */
#ifndef VIRGA_BOOT_BOOT_H
#define VIRGA_BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/memory.h"
#include "arch/vcpu.h"
#include "devices/device.h"

/* A read-only image in memory: a mapped file, or the embedded guest. */
struct image {
	const char *name; /* for sentences */
	const uint8_t *data;
	size_t size;
	bool mapped; /* image_close unmaps */
};

/* Maps a file. Sentences for: missing, a directory, empty, not readable. */
int image_open(struct image *image, const char *path);
void image_close(struct image *image);

/* The embedded guest (guest/builtin), an ELF64 with a PVH note. */
struct image image_builtin(void);

struct boot_source {
	const struct image *kernel;
	const struct image *initrd; /* NULL for none */
	const char *cmdline;        /* "" for none */
	unsigned vcpu_count;
	const struct devices *devices; /* to announce; NULL: none */
};

/*
 * Loads everything and fills *regs for vcpu_boot. 0 or -errno with a sentence that says what does
 * not fit and by how much. Memory may have been written on failure.
 */
int boot_load(const struct memory *memory, const struct boot_source *source,
	      struct boot_regs *regs);

/* The parts, for boot.c and for tests. */

enum image_kind { IMAGE_BZIMAGE, IMAGE_ELF_PVH, IMAGE_ELF_LINUX64 };

/* What a kernel image is; for anything else -ENOEXEC and a sentence that says what it looks like. */
int image_identify(const struct image *image, enum image_kind *kind);

/* The same for an image that starts as an ELF file does. */
int elf_identify(const struct image *image, enum image_kind *kind);

/*
 * Whether an image is a Linux, as far as can be seen: a bzImage, or an ELF whose Xen note GUEST_OS
 * says so; without that note one that has Linux's banner.
 */
bool image_is_linux(const struct image *image);
bool elf_is_linux(const struct image *image);

/*
 * Refuses what people take for a kernel most often: -ENOEXEC and a sentence that names it and says
 * what to do with it, 0 when it is none of those. The image is neither a bzImage nor an ELF.
 */
#define IMAGE_BOOTS "virga boots bzImage and x86-64 ELF"
int image_refuse_known(const struct image *image);

/* Whether there is a Multiboot header, version 1 or 2, where boot loaders look for one. */
#define IMAGE_MULTIBOOT "a Multiboot kernel: use one with a PVH note"
bool image_is_multiboot(const struct image *image);

/* Whether an image has the header of a bzImage, sound or not. */
bool bzimage_matches(const struct image *image);

/* ELF segments / bzImage payload into memory; *entry, and *end: first byte past the kernel. */
int elf_load(const struct memory *memory, const struct image *image, enum image_kind kind,
	     uint64_t *entry, uint64_t *end);
int bzimage_load(const struct memory *memory, const struct image *image, uint64_t *entry,
		 uint64_t *end);

/*
 * Whether a kernel may use [gpa, gpa + size): RAM below the 32-bit hole that nothing of the machine
 * or of the boot protocol lies in. part: what of the image that is, for the sentence. 0, or -ENOMEM.
 */
int boot_check_range(const struct memory *memory, const struct image *image, const char *part,
		     uint64_t gpa, uint64_t size);

/*
 * Copies len bytes to gpa, but leaves alone the pages that would get zeros only: guest memory is
 * zero already, and a page never written costs nothing. The caller has checked the range.
 */
void boot_copy(const struct memory *memory, uint64_t gpa, const uint8_t *data, uint64_t len);

/* What a start-info page tells the guest. Addresses are guest-physical. */
struct boot_info {
	uint64_t cmdline; /* 0 for none */
	uint64_t initrd;  /* 0 for none */
	uint64_t initrd_size;
};

/* Writes hvm_start_info (PVH) / the zero page (Linux 64-bit) and gives its address. 0 or -errno. */
int pvh_write(const struct memory *memory, const struct boot_info *info, uint64_t *gpa);
int linux_write(const struct memory *memory, const struct image *kernel, enum image_kind kind,
		const struct boot_info *info, uint64_t *gpa);

/* What the kernel accepts: command line bytes without the NUL, last address of an initrd. */
struct boot_limits {
	uint64_t cmdline_len;
	uint64_t initrd_last;
};
int linux_limits(const struct image *kernel, enum image_kind kind, struct boot_limits *limits);

/* One line of the guest's physical memory map; types as in E820. */
enum memory_map_type { MEMORY_MAP_RAM = 1, MEMORY_MAP_RESERVED = 2 };
struct memory_map_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
};
#define MEMORY_MAP_MAX 8
unsigned boot_memory_map(const struct memory *memory, struct memory_map_entry map[MEMORY_MAP_MAX]);

/* Writes what lies at the reset vector: a use of the reset register, where there is one. 0 or -errno. */
int boot_write_reset_vector(const struct memory *memory, const struct boot_source *source);

/* Writes RSDP, XSDT, FADT, MADT and DSDT at LAYOUT_ACPI. 0 or -errno. */
int acpi_write(const struct memory *memory, const struct boot_source *source);

#endif
