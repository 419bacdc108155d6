/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images made by hand (tests/unit/images.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arch/base/error.h"
#include "tests/unit/images.h"

Elf64_Ehdr *elf_of(struct test_image *t)
{
	return (void *)t->bytes;
}

Elf64_Phdr *segment_of(struct test_image *t, unsigned i)
{
	return (Elf64_Phdr *)(void *)(t->bytes + sizeof(Elf64_Ehdr)) + i;
}

Elf64_Nhdr *note_of(struct test_image *t)
{
	return (void *)(t->bytes + ELF_NOTE_OFFSET);
}

/* A note of another owner and type, then the PVH note. */
static size_t make_notes(uint8_t *to)
{
	const struct {
		Elf64_Nhdr other;
		char other_name[8];
		uint32_t other_desc;
		Elf64_Nhdr pvh;
		char name[4];
		uint64_t entry __attribute__((packed, aligned(4)));
	} notes = {
		.other = { .n_namesz = 6, .n_descsz = 4, .n_type = 18 },
		.other_name = "Linux",
		.pvh = { .n_namesz = 4, .n_descsz = 8, .n_type = 18 },
		.name = "Xen",
		.entry = ELF_PVH_ENTRY,
	};

	memcpy(to, &notes, sizeof(notes));
	return sizeof(notes);
}

void make_elf(struct test_image *t, bool pvh)
{
	Elf64_Ehdr *h = elf_of(t);

	memset(t, 0, sizeof(*t));
	t->size = ELF_FILE_SIZE;
	memcpy(h->e_ident, ELFMAG, SELFMAG);
	h->e_ident[EI_CLASS] = ELFCLASS64;
	h->e_ident[EI_DATA] = ELFDATA2LSB;
	h->e_ident[EI_VERSION] = EV_CURRENT;
	h->e_type = ET_EXEC;
	h->e_machine = EM_X86_64;
	h->e_version = EV_CURRENT;
	h->e_entry = ELF_ENTRY;
	h->e_phoff = sizeof(*h);
	h->e_ehsize = sizeof(*h);
	h->e_phentsize = sizeof(Elf64_Phdr);
	h->e_phnum = TEST_SEGMENTS;
	*segment_of(t, TEST_TEXT) = (Elf64_Phdr){ .p_type = PT_LOAD,
						  .p_offset = ELF_TEXT_OFFSET,
						  .p_vaddr = 0xffffffff80000000,
						  .p_paddr = ELF_TEXT_GPA,
						  .p_filesz = 0x1000,
						  .p_memsz = 0x1000 };
	*segment_of(t, TEST_DATA) = (Elf64_Phdr){ .p_type = PT_LOAD,
						  .p_offset = ELF_DATA_OFFSET,
						  .p_vaddr = 0xffffffff80001000,
						  .p_paddr = ELF_DATA_GPA,
						  .p_filesz = 0x1000,
						  .p_memsz = 0x1000 + ELF_BSS_SIZE };
	*segment_of(t, TEST_NOTE) =
		(Elf64_Phdr){ .p_type = pvh ? PT_NOTE : PT_NULL,
			      .p_offset = ELF_NOTE_OFFSET,
			      .p_filesz = make_notes(t->bytes + ELF_NOTE_OFFSET),
			      .p_align = 4 };
	memset(t->bytes + ELF_TEXT_OFFSET, 0xf4, 0x1000);
	memset(t->bytes + ELF_DATA_OFFSET, 0x5a, 0x1000);
}

Elf32_Ehdr *header_32_of(struct test_image *t)
{
	return (void *)t->bytes;
}

Elf32_Phdr *segment_32_of(struct test_image *t, unsigned i)
{
	return (Elf32_Phdr *)(void *)(t->bytes + sizeof(Elf32_Ehdr)) + i;
}

void make_elf32(struct test_image *t, bool pvh)
{
	Elf64_Phdr wide[TEST_SEGMENTS];
	Elf32_Ehdr *h = header_32_of(t);

	make_elf(t, pvh);
	memcpy(wide, segment_of(t, 0), sizeof(wide));
	memset(t->bytes, 0, sizeof(Elf64_Ehdr) + sizeof(wide));
	memcpy(h->e_ident, ELFMAG, SELFMAG);
	h->e_ident[EI_CLASS] = ELFCLASS32;
	h->e_ident[EI_DATA] = ELFDATA2LSB;
	h->e_ident[EI_VERSION] = EV_CURRENT;
	h->e_type = ET_EXEC;
	h->e_machine = EM_386;
	h->e_version = EV_CURRENT;
	h->e_entry = ELF_ENTRY;
	h->e_phoff = sizeof(*h);
	h->e_ehsize = sizeof(*h);
	h->e_phentsize = sizeof(Elf32_Phdr);
	h->e_phnum = TEST_SEGMENTS;
	for (unsigned i = 0; i < TEST_SEGMENTS; i++)
		*segment_32_of(t, i) = (Elf32_Phdr){ .p_type = wide[i].p_type,
						     .p_offset = (uint32_t)wide[i].p_offset,
						     .p_vaddr = (uint32_t)wide[i].p_vaddr,
						     .p_paddr = (uint32_t)wide[i].p_paddr,
						     .p_filesz = (uint32_t)wide[i].p_filesz,
						     .p_memsz = (uint32_t)wide[i].p_memsz,
						     .p_align = (uint32_t)wide[i].p_align };
}

void name_guest_os(struct test_image *t, const char *os)
{
	Elf64_Phdr *p = segment_of(t, TEST_NOTE);
	Elf64_Nhdr *n = note_of(t);
	bool pvh = p->p_type == PT_NOTE;
	size_t size = (strlen(os) + 1 + 3) & ~(size_t)3;

	memset(t->bytes + ELF_NOTE_OFFSET, 0, 0x100);
	*n = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = (uint32_t)strlen(os) + 1, .n_type = 6 };
	memcpy(t->bytes + ELF_NOTE_OFFSET + sizeof(*n), "Xen", 4);
	strcpy((char *)t->bytes + ELF_NOTE_OFFSET + sizeof(*n) + 4, os);
	size += sizeof(*n) + 4;
	if (pvh)
		size += make_notes(t->bytes + ELF_NOTE_OFFSET + size);
	p->p_type = PT_NOTE;
	p->p_filesz = size;
}

void put_multiboot(struct test_image *t, unsigned version, size_t offset)
{
	uint32_t words[4] = { 0x1badb002, 3, -(0x1badb002u + 3) };

	if (version == 2) {
		words[0] = 0xe85250d6;
		words[1] = 0; /* i386 */
		words[2] = sizeof(words);
		words[3] = -(words[0] + words[1] + words[2]);
	}
	memcpy(t->bytes + offset, words, sizeof(words));
}

struct image copy_image(const struct test_image *t, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, t->bytes, size);
	return (struct image){ .name = "test", .data = copy, .size = size };
}

void free_image(struct image *image)
{
	free((void *)image->data);
}

int load_image(const struct memory *memory, const struct test_image *t, struct loaded *out)
{
	struct image image = copy_image(t, t->size);
	int ret = image_identify(&image, &out->kind);

	if (ret == 0)
		ret = out->kind == IMAGE_BZIMAGE
			      ? bzimage_load(memory, &image, &out->entry, &out->end)
			      : elf_load(memory, &image, out->kind, &out->entry, &out->end);
	free_image(&image);
	return ret;
}

uint64_t touched_bytes(const struct memory *memory)
{
	struct stat st;

	assert_int_equal(fstat(memory->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

void assert_says(const char *text)
{
	if (!strstr(error_text(), text))
		fail_msg("\"%s\" does not hold \"%s\"", error_text(), text);
}
