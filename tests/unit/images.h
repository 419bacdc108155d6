/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images made by hand for the boot tests: right when made, so that a test
 * breaks one thing. Each load of an image reads an exact copy on the heap, where a
 * sanitizer sees the first byte behind its end.
 */
#ifndef VIRGA_TESTS_UNIT_IMAGES_H
#define VIRGA_TESTS_UNIT_IMAGES_H

#include <elf.h>

#include "boot/boot.h"

struct linux_header;

#define IMAGE_MAX           0xa000u

/* What the images are made of: a text segment, a data segment with bss, a note. */
#define ELF_TEXT_OFFSET     0x1000u
#define ELF_TEXT_GPA        0x100000u
#define ELF_DATA_OFFSET     0x2000u
#define ELF_DATA_GPA        0x200000u
#define ELF_BSS_SIZE        0x80000u
#define ELF_NOTE_OFFSET     0x200u
#define ELF_PVH_ENTRY       (ELF_TEXT_GPA + 0x30u)
#define ELF_ENTRY           (ELF_TEXT_GPA + 0x40u)
#define ELF_FILE_SIZE       0x3000u

#define BZIMAGE_SETUP_SECTS 7u
#define BZIMAGE_PAYLOAD     0x1000u /* offset in the file */
#define BZIMAGE_SIZE        0x3000u
#define BZIMAGE_GPA         0x1000000u
#define BZIMAGE_INIT_SIZE   0x200000u

struct test_image {
	_Alignas(16) uint8_t bytes[IMAGE_MAX];
	size_t size;
};

enum { TEST_TEXT, TEST_DATA, TEST_NOTE, TEST_SEGMENTS };

void make_elf(struct test_image *t, bool pvh);

/* The same as an ELF32 for i386, whose headers are header_32_of() and segment_32_of(). */
void make_elf32(struct test_image *t, bool pvh);
Elf32_Ehdr *header_32_of(struct test_image *t);
Elf32_Phdr *segment_32_of(struct test_image *t, unsigned i);

/* Puts a Xen note GUEST_OS in front of the PVH note, if there is that. */
void name_guest_os(struct test_image *t, const char *os);

/* A Multiboot header of version 1 or 2 with the right sum, at a file's offset. */
void put_multiboot(struct test_image *t, unsigned version, size_t offset);
Elf64_Ehdr *elf_of(struct test_image *t);
Elf64_Phdr *segment_of(struct test_image *t, unsigned i);
Elf64_Nhdr *note_of(struct test_image *t);

/* In tests/unit/boot/x86_64/; a header is changed by those that include boot/x86_64/linux.h. */
void make_bzimage(struct test_image *t);
struct linux_header *header_of(struct test_image *t);

/* An exact copy of the first `size` bytes; free_image() frees it. */
struct image copy_image(const struct test_image *t, size_t size);
void free_image(struct image *image);

/* Identifies and loads a copy of the image as boot_load would. 0 or -errno. */
struct loaded {
	enum image_kind kind;
	uint64_t entry;
	uint64_t end;
};
int load_image(const struct memory *memory, const struct test_image *t, struct loaded *out);

/* Bytes of memory's memfd that have been written. */
uint64_t touched_bytes(const struct memory *memory);

/* The last sentence holds this text; fails with both when it does not. */
void assert_says(const char *text);

#endif
