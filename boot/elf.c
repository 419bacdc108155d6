/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF kernels of both classes: loadable segments to their physical addresses, and the
 * entry: the 32-bit one that a Xen note of type PHYS32_ENTRY names (PVH), else, of an
 * ELF64, the header's, by the Linux 64-bit boot protocol.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/elf_file.h"

/* Entries are where paging is off, or identity-mapped as far as this. */
#define ELF_ENTRY_LIMIT (1ull << 32)

/* The entry that the PVH note names. 1 when there is one, 0 when not, or -ENOEXEC. */
static int elf_pvh_entry(const struct elf_file *file, uint64_t *entry)
{
	const uint8_t *desc;
	uint32_t len;
	int ret = elf_file_xen_note(file, ELF_XEN_PHYS32_ENTRY, &desc, &len);

	if (ret <= 0)
		return ret;
	/* Linux writes a word of its own size, the ABI asks for 32 bits: both are in use. */
	if (len != 4 && len != 8)
		return failf(ENOEXEC, "kernel %s: damaged: a PVH entry note of %u bytes",
			     file->image->name, len);
	*entry = 0;
	memcpy(entry, desc, len);
	return 1;
}

/* Without a PVH note an ELF64 is entered by the Linux protocol, if nothing says that it is not. */
static int elf_check_linux64(const struct elf_file *file)
{
	const char *name = file->image->name;

	if (image_is_multiboot(file->image))
		return failf(ENOEXEC, "kernel %s: this is " IMAGE_MULTIBOOT, name);
	if (file->is_32)
		return failf(ENOEXEC,
			     "kernel %s: a 32-bit ELF file without a PVH note: use one that has it",
			     name);
	return 0;
}

int elf_identify(const struct image *image, enum image_kind *kind)
{
	struct elf_file file;
	uint64_t entry;
	int ret = elf_file_init(&file, image);

	if (ret == 0)
		ret = elf_pvh_entry(&file, &entry);
	*kind = ret > 0 ? IMAGE_ELF_PVH : IMAGE_ELF_LINUX64;
	if (ret == 0)
		ret = elf_check_linux64(&file);
	return ret < 0 ? ret : 0;
}

bool elf_is_linux(const struct image *image)
{
	static const char banner[] = "Linux version ";
	struct elf_file file;
	const uint8_t *os;
	uint32_t len;
	int ret;

	if (elf_file_init(&file, image) < 0)
		return false;
	ret = elf_file_xen_note(&file, ELF_XEN_GUEST_OS, &os, &len);
	if (ret < 0)
		return false;
	if (ret > 0)
		return strnlen((const char *)os, len) == 5 && memcmp(os, "linux", 5) == 0;
	return memmem(image->data, image->size, banner, sizeof(banner) - 1);
}

/* Overlapping segments have no meaning that two loaders agree on. */
static int elf_check_overlap(const struct elf_file *file, unsigned i, const Elf64_Phdr *p)
{
	for (unsigned j = 0; j < i; j++) {
		Elf64_Phdr q;

		if (elf_file_segment(file, j, &q) == 0 && q.p_type == PT_LOAD &&
		    q.p_paddr < p->p_paddr + p->p_memsz && p->p_paddr < q.p_paddr + q.p_memsz)
			return failf(ENOEXEC,
				     "kernel %s: damaged: segments %u and %u overlap at 0x%" PRIx64,
				     file->image->name, j, i,
				     q.p_paddr > p->p_paddr ? q.p_paddr : p->p_paddr);
	}
	return 0;
}

static int elf_load_segment(const struct memory *memory, const struct elf_file *file, unsigned i,
			    const Elf64_Phdr *p)
{
	const struct image *image = file->image;
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
		ret = elf_check_overlap(file, i, p);
	if (ret == 0)
		boot_copy(memory, p->p_paddr, image->data + p->p_offset, p->p_filesz);
	return ret;
}

static int elf_load_segments(const struct memory *memory, const struct elf_file *file,
			     uint64_t entry, uint64_t *end)
{
	const char *name = file->image->name;
	bool entry_loaded = false;

	*end = 0;
	for (unsigned i = 0; i < file->header.e_phnum; i++) {
		Elf64_Phdr p;
		int ret = elf_file_segment(file, i, &p);

		if (ret < 0)
			return ret;
		if (p.p_type != PT_LOAD || p.p_memsz == 0)
			continue;
		ret = elf_load_segment(memory, file, i, &p);
		if (ret < 0)
			return ret;
		if (p.p_paddr + p.p_memsz > *end)
			*end = p.p_paddr + p.p_memsz;
		if (entry >= p.p_paddr && entry - p.p_paddr < p.p_memsz)
			entry_loaded = true;
	}
	if (*end == 0)
		return failf(ENOEXEC, "kernel %s: an ELF file with nothing to load", name);
	if (!entry_loaded || entry >= ELF_ENTRY_LIMIT)
		return failf(ENOEXEC,
			     "kernel %s: its entry 0x%" PRIx64
			     " lies in none of its segments (is it a user program?)",
			     name, entry);
	return 0;
}

int elf_load(const struct memory *memory, const struct image *image, enum image_kind kind,
	     uint64_t *entry, uint64_t *end)
{
	struct elf_file file;
	int ret = elf_file_init(&file, image);

	*entry = file.header.e_entry;
	if (ret == 0 && kind == IMAGE_ELF_PVH)
		ret = elf_pvh_entry(&file, entry);
	return ret < 0 ? ret : elf_load_segments(memory, &file, *entry, end);
}
