/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF64 kernels (System V ABI, chapters 4 and 5): loadable segments to their physical
 * addresses, and the entry: the 32-bit one that a Xen note of type PHYS32_ENTRY names
 * (PVH), else the header's, by the Linux 64-bit boot protocol.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/boot.h"

#define ELF_NOTE_PHYS32_ENTRY 18u
#define ELF_NOTE_OWNER        "Xen"

/* Linux has five. The limit bounds what a hostile file can make the loader do. */
#define ELF_SEGMENTS_MAX      64u

/* Entries are where paging is off, or identity-mapped as far as this. */
#define ELF_ENTRY_LIMIT       (1ull << 32)

static const char *elf_machine_name(unsigned machine)
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

static int elf_check_kind(const struct image *image, const Elf64_Ehdr *h)
{
	if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		return failf(ENOEXEC, "kernel %s: an ELF file in big-endian order, not for x86-64",
			     image->name);
	if (h->e_machine != EM_X86_64)
		return failf(ENOEXEC, "kernel %s: an ELF file for %s (machine %u), not for x86-64",
			     image->name, elf_machine_name(h->e_machine), h->e_machine);
	if (h->e_ident[EI_CLASS] != ELFCLASS64)
		return failf(ENOEXEC, "kernel %s: a 32-bit ELF file: virga boots 64-bit ones",
			     image->name);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return failf(ENOEXEC, "kernel %s: an ELF file of type %u, not a linked program",
			     image->name, h->e_type);
	return 0;
}

static int elf_header(const struct image *image, Elf64_Ehdr *h)
{
	uint64_t size, room;
	int ret;

	if (image->size < sizeof(*h))
		return failf(ENOEXEC,
			     "kernel %s: cut short: %zu bytes of its ELF header are missing",
			     image->name, sizeof(*h) - image->size);
	memcpy(h, image->data, sizeof(*h));
	ret = elf_check_kind(image, h);
	if (ret < 0)
		return ret;
	if (h->e_phnum == 0)
		return failf(ENOEXEC, "kernel %s: an ELF file without program headers",
			     image->name);
	if (h->e_phnum > ELF_SEGMENTS_MAX)
		return failf(ENOEXEC, "kernel %s: an ELF file with %u program headers, %u at most",
			     image->name, h->e_phnum, ELF_SEGMENTS_MAX);
	if (h->e_phentsize != sizeof(Elf64_Phdr))
		return failf(ENOEXEC, "kernel %s: damaged: program headers of %u bytes",
			     image->name, h->e_phentsize);
	size = h->e_phnum * sizeof(Elf64_Phdr);
	room = h->e_phoff < image->size ? image->size - h->e_phoff : 0;
	if (size > room)
		return failf(ENOEXEC,
			     "kernel %s: cut short: %" PRIu64
			     " bytes of its program headers are missing",
			     image->name, size - room);
	return 0;
}

/* Program header i; what it says of the file has been checked against the file. */
static int elf_segment(const struct image *image, const Elf64_Ehdr *h, unsigned i, Elf64_Phdr *p)
{
	uint64_t room;

	memcpy(p, image->data + h->e_phoff + i * sizeof(*p), sizeof(*p));
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

static uint64_t elf_align(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

/* The descriptor of the note that names the entry. 1 when found, 0 when not, or -ENOEXEC. */
static int elf_note_entry(const struct image *image, const uint8_t *desc, uint64_t len,
			  uint64_t *entry)
{
	/* Linux writes a word of its own size, the ABI asks for 32 bits: both are in use. */
	if (len != 4 && len != 8)
		return failf(ENOEXEC, "kernel %s: damaged: a PVH entry note of %" PRIu64 " bytes",
			     image->name, len);
	*entry = 0;
	memcpy(entry, desc, len);
	return 1;
}

/* Looks for the PVH note in one PT_NOTE segment; results as above. */
static int elf_scan_notes(const struct image *image, const Elf64_Phdr *p, uint64_t *entry)
{
	const uint8_t *notes = image->data + p->p_offset;
	uint64_t align = p->p_align == 8 ? 8 : 4;
	Elf64_Nhdr n;

	/* All sums are of 32-bit numbers and a file's size: 64 bits hold them. */
	for (uint64_t at = 0; p->p_filesz - at >= sizeof(n);) {
		uint64_t name = at + sizeof(n);
		uint64_t desc, end;

		memcpy(&n, notes + at, sizeof(n));
		desc = elf_align(name + n.n_namesz, align);
		end = desc + n.n_descsz;
		if (end > p->p_filesz)
			return failf(ENOEXEC,
				     "kernel %s: damaged: the note at byte 0x%" PRIx64
				     " is %" PRIu64 " bytes longer than its segment",
				     image->name, p->p_offset + at, end - p->p_filesz);
		if (n.n_type == ELF_NOTE_PHYS32_ENTRY && n.n_namesz == sizeof(ELF_NOTE_OWNER) &&
		    memcmp(notes + name, ELF_NOTE_OWNER, sizeof(ELF_NOTE_OWNER)) == 0)
			return elf_note_entry(image, notes + desc, n.n_descsz, entry);
		at = elf_align(end, align);
		if (at > p->p_filesz)
			break;
	}
	return 0;
}

static int elf_find_pvh(const struct image *image, const Elf64_Ehdr *h, uint64_t *entry)
{
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p;
		int ret = elf_segment(image, h, i, &p);

		if (ret == 0 && p.p_type == PT_NOTE)
			ret = elf_scan_notes(image, &p, entry);
		if (ret != 0)
			return ret;
	}
	return 0;
}

int elf_identify(const struct image *image, enum image_kind *kind)
{
	Elf64_Ehdr h = { 0 };
	uint64_t entry;
	int ret = elf_header(image, &h);

	if (ret == 0)
		ret = elf_find_pvh(image, &h, &entry);
	if (ret < 0)
		return ret;
	*kind = ret ? IMAGE_ELF_PVH : IMAGE_ELF_LINUX64;
	return 0;
}

/* Overlapping segments have no meaning that two loaders agree on. */
static int elf_check_overlap(const struct image *image, const Elf64_Ehdr *h, unsigned i,
			     const Elf64_Phdr *p)
{
	for (unsigned j = 0; j < i; j++) {
		Elf64_Phdr q;

		memcpy(&q, image->data + h->e_phoff + j * sizeof(q), sizeof(q));
		if (q.p_type == PT_LOAD && q.p_paddr < p->p_paddr + p->p_memsz &&
		    p->p_paddr < q.p_paddr + q.p_memsz)
			return failf(ENOEXEC,
				     "kernel %s: damaged: segments %u and %u overlap at 0x%" PRIx64,
				     image->name, j, i,
				     q.p_paddr > p->p_paddr ? q.p_paddr : p->p_paddr);
	}
	return 0;
}

static int elf_load_segment(const struct memory *memory, const struct image *image,
			    const Elf64_Ehdr *h, unsigned i, const Elf64_Phdr *p)
{
	char part[32];
	int ret;

	if (p->p_filesz > p->p_memsz)
		return failf(ENOEXEC,
			     "kernel %s: damaged: segment %u has %" PRIu64
			     " bytes in the file, but only %" PRIu64 " in memory",
			     image->name, i, p->p_filesz, p->p_memsz);
	snprintf(part, sizeof(part), "segment %u", i);
	ret = boot_check_range(memory, image, part, p->p_paddr, p->p_memsz);
	if (ret == 0)
		ret = elf_check_overlap(image, h, i, p);
	if (ret == 0)
		boot_copy(memory, p->p_paddr, image->data + p->p_offset, p->p_filesz);
	return ret;
}

static int elf_load_segments(const struct memory *memory, const struct image *image,
			     const Elf64_Ehdr *h, uint64_t entry, uint64_t *end)
{
	bool entry_loaded = false;

	*end = 0;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p;
		int ret = elf_segment(image, h, i, &p);

		if (ret < 0)
			return ret;
		if (p.p_type != PT_LOAD || p.p_memsz == 0)
			continue;
		ret = elf_load_segment(memory, image, h, i, &p);
		if (ret < 0)
			return ret;
		if (p.p_paddr + p.p_memsz > *end)
			*end = p.p_paddr + p.p_memsz;
		if (entry >= p.p_paddr && entry - p.p_paddr < p.p_memsz)
			entry_loaded = true;
	}
	if (*end == 0)
		return failf(ENOEXEC, "kernel %s: an ELF file with nothing to load", image->name);
	if (!entry_loaded || entry >= ELF_ENTRY_LIMIT)
		return failf(ENOEXEC,
			     "kernel %s: its entry 0x%" PRIx64
			     " lies in none of its segments (is it a user program?)",
			     image->name, entry);
	return 0;
}

int elf_load(const struct memory *memory, const struct image *image, enum image_kind kind,
	     uint64_t *entry, uint64_t *end)
{
	Elf64_Ehdr h = { 0 };
	int ret = elf_header(image, &h);

	if (ret < 0)
		return ret;
	*entry = h.e_entry;
	if (kind == IMAGE_ELF_PVH) {
		ret = elf_find_pvh(image, &h, entry);
		if (ret < 0)
			return ret;
	}
	return elf_load_segments(memory, image, &h, *entry, end);
}
