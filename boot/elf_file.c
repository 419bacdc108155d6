/* SPDX-License-Identifier: Apache-2.0 */
/* The headers and notes of an ELF file (System V ABI, chapters 4 and 5): boot/elf_file.h. */
#include "boot/elf_file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/base/error.h"

#define ELF_NOTE_OWNER   "Xen"

/* Linux has five. The limit bounds what a hostile file can make the loader do. */
#define ELF_SEGMENTS_MAX 64u

static const char *elf_file_machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_ARM:
		return "Arm";
	case EM_AARCH64:
		return "AArch64";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "PowerPC";
	case EM_S390:
		return "S/390";
	case EM_MIPS:
		return "MIPS";
	}
	return "another machine";
}

static int elf_file_check_kind(const struct elf_file *file)
{
	const Elf64_Ehdr *h = &file->header;
	const char *name = file->image->name;

	if (h->e_machine != EM_X86_64 && !(file->is_32 && h->e_machine == EM_386))
		return failf(ENOEXEC, "kernel %s: an ELF file for %s (machine %u), not for x86-64",
			     name, elf_file_machine_name(h->e_machine), h->e_machine);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return failf(ENOEXEC, "kernel %s: an ELF file of type %u, not a linked program",
			     name, h->e_type);
	return 0;
}

static size_t elf_file_entry_size(const struct elf_file *file)
{
	return file->is_32 ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr);
}

static int elf_file_check_table(const struct elf_file *file)
{
	const struct image *image = file->image;
	const Elf64_Ehdr *h = &file->header;
	uint64_t size = h->e_phnum * elf_file_entry_size(file);
	uint64_t room = h->e_phoff < image->size ? image->size - h->e_phoff : 0;

	if (h->e_phnum == 0)
		return failf(ENOEXEC, "kernel %s: an ELF file without program headers",
			     image->name);
	if (h->e_phnum > ELF_SEGMENTS_MAX)
		return failf(ENOEXEC, "kernel %s: an ELF file with %u program headers, %u at most",
			     image->name, h->e_phnum, ELF_SEGMENTS_MAX);
	if (h->e_phentsize != elf_file_entry_size(file))
		return failf(ENOEXEC, "kernel %s: damaged: program headers of %u bytes",
			     image->name, h->e_phentsize);
	if (size > room)
		return failf(ENOEXEC,
			     "kernel %s: cut short: %" PRIu64
			     " bytes of its program headers are missing",
			     image->name, size - room);
	return 0;
}

static void elf_file_widen(Elf64_Ehdr *to, const uint8_t *data)
{
	Elf32_Ehdr h;

	memcpy(&h, data, sizeof(h));
	*to = (Elf64_Ehdr){ .e_type = h.e_type,
			    .e_machine = h.e_machine,
			    .e_entry = h.e_entry,
			    .e_phoff = h.e_phoff,
			    .e_phentsize = h.e_phentsize,
			    .e_phnum = h.e_phnum };
}

int elf_file_init(struct elf_file *file, const struct image *image)
{
	size_t size;
	int ret;

	*file = (struct elf_file){ .image = image };
	file->is_32 = image->size > EI_CLASS && image->data[EI_CLASS] == ELFCLASS32;
	size = file->is_32 ? sizeof(Elf32_Ehdr) : sizeof(Elf64_Ehdr);
	if (image->size < size)
		return failf(ENOEXEC,
			     "kernel %s: cut short: %zu bytes of its ELF header are missing",
			     image->name, size - image->size);
	if (image->data[EI_DATA] != ELFDATA2LSB)
		return failf(ENOEXEC, "kernel %s: an ELF file in big-endian order, not for x86-64",
			     image->name);
	if (file->is_32)
		elf_file_widen(&file->header, image->data);
	else
		memcpy(&file->header, image->data, size);
	ret = elf_file_check_kind(file);
	return ret < 0 ? ret : elf_file_check_table(file);
}

static void elf_file_read_segment(const struct elf_file *file, unsigned i, Elf64_Phdr *to)
{
	const uint8_t *at = file->image->data + file->header.e_phoff;
	Elf32_Phdr p;

	at += i * elf_file_entry_size(file);
	if (!file->is_32) {
		memcpy(to, at, sizeof(*to));
		return;
	}
	memcpy(&p, at, sizeof(p));
	*to = (Elf64_Phdr){ .p_type = p.p_type,
			    .p_offset = p.p_offset,
			    .p_paddr = p.p_paddr,
			    .p_filesz = p.p_filesz,
			    .p_memsz = p.p_memsz,
			    .p_align = p.p_align };
}

int elf_file_segment(const struct elf_file *file, unsigned i, Elf64_Phdr *p)
{
	const struct image *image = file->image;
	uint64_t room;

	elf_file_read_segment(file, i, p);
	if (p->p_type != PT_LOAD && p->p_type != PT_NOTE)
		return 0;
	room = p->p_offset < image->size ? image->size - p->p_offset : 0;
	if (p->p_filesz > room)
		return failf(ENOEXEC,
			     "kernel %s: cut short or damaged: %" PRIu64 " of the %" PRIu64
			     " bytes of segment %u are missing",
			     image->name, p->p_filesz - room, p->p_filesz, i);
	if (p->p_filesz == 0)
		p->p_offset = 0; /* wherever nothing lies, it is not to be pointed at */
	return 0;
}

static uint64_t elf_file_align(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

/* Looks for the note in one PT_NOTE segment; results as of elf_file_xen_note(). */
static int elf_file_scan_notes(const struct image *image, const Elf64_Phdr *p,
			       enum elf_xen_note type, const uint8_t **desc, uint32_t *len)
{
	const uint8_t *notes = image->data + p->p_offset;
	uint64_t align = p->p_align == 8 ? 8 : 4;
	Elf64_Nhdr n; /* of the same three words in both classes */

	/* All sums are of 32-bit numbers and a file's size: 64 bits hold them. */
	for (uint64_t at = 0; p->p_filesz - at >= sizeof(n);) {
		uint64_t name = at + sizeof(n);
		uint64_t start, end;

		memcpy(&n, notes + at, sizeof(n));
		start = elf_file_align(name + n.n_namesz, align);
		end = start + n.n_descsz;
		if (end > p->p_filesz)
			return failf(ENOEXEC,
				     "kernel %s: damaged: the note at byte 0x%" PRIx64
				     " is %" PRIu64 " bytes longer than its segment",
				     image->name, p->p_offset + at, end - p->p_filesz);
		if (n.n_type == type && n.n_namesz == sizeof(ELF_NOTE_OWNER) &&
		    memcmp(notes + name, ELF_NOTE_OWNER, sizeof(ELF_NOTE_OWNER)) == 0) {
			*desc = notes + start;
			*len = n.n_descsz;
			return 1;
		}
		at = elf_file_align(end, align);
		if (at > p->p_filesz)
			break;
	}
	return 0;
}

int elf_file_xen_note(const struct elf_file *file, enum elf_xen_note type, const uint8_t **desc,
		      uint32_t *len)
{
	for (unsigned i = 0; i < file->header.e_phnum; i++) {
		Elf64_Phdr p;
		int ret = elf_file_segment(file, i, &p);

		if (ret == 0 && p.p_type == PT_NOTE)
			ret = elf_file_scan_notes(file->image, &p, type, desc, len);
		if (ret != 0)
			return ret;
	}
	return 0;
}
