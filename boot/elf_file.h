/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ELF file says of itself, both classes alike: ELF32 headers are widened into
 * ELF64 structs as they are read. For elf.c; where a kernel goes is there.
 */
#ifndef VIRGA_BOOT_ELF_FILE_H
#define VIRGA_BOOT_ELF_FILE_H

#include <elf.h>

#include "boot/boot.h"

struct elf_file {
	const struct image *image;
	bool is_32;
	Elf64_Ehdr header;
};

/* Reads and checks the file header of a kernel for x86. 0, or -ENOEXEC with a sentence. */
int elf_file_init(struct elf_file *file, const struct image *image);

/*
 * Program header i, below header.e_phnum. What one of PT_LOAD or PT_NOTE says of the file has been
 * checked against the file. 0, or -ENOEXEC with a sentence.
 */
int elf_file_segment(const struct elf_file *file, unsigned i, Elf64_Phdr *p);

/* Notes of the owner "Xen" (Xen's public header elfnote.h). */
enum elf_xen_note { ELF_XEN_GUEST_OS = 6, ELF_XEN_PHYS32_ENTRY = 18 };

/*
 * The descriptor of the first Xen note of a type: *desc points into the image. 1 when there is one,
 * 0 when not, or -ENOEXEC with a sentence.
 */
int elf_file_xen_note(const struct elf_file *file, enum elf_xen_note type, const uint8_t **desc,
		      uint32_t *len);

#endif
