/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels: what is loaded where, and what a broken or hostile file is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "tests/unit/images.h"

#define MEMORY_SIZE (4u << 20)

static struct memory memory;
static struct test_image t;
static struct loaded loaded;

static int setup(void **state)
{
	(void)state;
	make_elf(&t, true);
	return memory_create(&memory, MEMORY_SIZE);
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(&memory);
	return 0;
}

static void fails(int err, const char *text)
{
	assert_int_equal(load_image(&memory, &t, &loaded), -err);
	assert_says("kernel test: ");
	assert_says(text);
}

static void pvh_entry_and_segments(void **state)
{
	const uint8_t *text = memory_at(&memory, ELF_TEXT_GPA, 0x1000);
	const uint8_t *data = memory_at(&memory, ELF_DATA_GPA, 0x1001);

	(void)state;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_PVH);
	assert_int_equal(loaded.entry, ELF_PVH_ENTRY);
	assert_int_equal(loaded.end, ELF_DATA_GPA + 0x1000 + ELF_BSS_SIZE);
	assert_memory_equal(text, t.bytes + ELF_TEXT_OFFSET, 0x1000);
	assert_memory_equal(data, t.bytes + ELF_DATA_OFFSET, 0x1000);
	assert_int_equal(data[0x1000], 0);
}

static void linux64_without_note(void **state)
{
	(void)state;
	make_elf(&t, false);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_LINUX64);
	assert_int_equal(loaded.entry, ELF_ENTRY);
}

static void linux64_with_other_owner(void **state)
{
	(void)state;
	note_of(&t)[0].n_descsz = 4;
	memcpy(t.bytes + ELF_NOTE_OFFSET + 12 + 8 + 4 + 12, "Xem", 4);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_LINUX64);
}

static void bss_and_zero_pages_are_not_touched(void **state)
{
	(void)state;
	memset(t.bytes + ELF_DATA_OFFSET, 0, 0x1000);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(touched_bytes(&memory), 0x1000);
}

static void truncated_anywhere(void **state)
{
	(void)state;
	for (size_t size = 4; size < ELF_FILE_SIZE; size++) {
		t.size = size;
		fails(ENOEXEC, "cut short");
	}
	t.size = 24;
	fails(ENOEXEC, "cut short: 40 bytes of its ELF header are missing");
	t.size = 64 + 3 * 56 - 7;
	fails(ENOEXEC, "cut short: 7 bytes of its program headers are missing");
	t.size = ELF_FILE_SIZE - 5;
	fails(ENOEXEC, "5 of the 4096 bytes of segment 1 are missing");
}

static void other_machines(void **state)
{
	(void)state;
	elf_of(&t)->e_machine = EM_AARCH64;
	fails(ENOEXEC, "an ELF file for AArch64 (machine 183), not for x86-64");
	elf_of(&t)->e_machine = 0x1234;
	fails(ENOEXEC, "an ELF file for another machine (machine 4660)");
	elf_of(&t)->e_machine = EM_386;
	fails(ENOEXEC, "an ELF file for i386");
	elf_of(&t)->e_ident[EI_DATA] = ELFDATA2MSB;
	fails(ENOEXEC, "big-endian");
	make_elf32(&t, true);
	header_32_of(&t)->e_machine = EM_ARM;
	fails(ENOEXEC, "an ELF file for Arm (machine 40), not for x86-64");
	header_32_of(&t)->e_ident[EI_DATA] = ELFDATA2MSB;
	fails(ENOEXEC, "big-endian");
}

/* The PVH entry is 32-bit: a kernel for it may come in either class. */
static void elf32_with_pvh_note(void **state)
{
	(void)state;
	make_elf32(&t, true);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_PVH);
	assert_int_equal(loaded.entry, ELF_PVH_ENTRY);
	assert_int_equal(loaded.end, ELF_DATA_GPA + 0x1000 + ELF_BSS_SIZE);
	assert_memory_equal(memory_at(&memory, ELF_TEXT_GPA, 0x1000), t.bytes + ELF_TEXT_OFFSET,
			    0x1000);
	assert_memory_equal(memory_at(&memory, ELF_DATA_GPA, 0x1000), t.bytes + ELF_DATA_OFFSET,
			    0x1000);
	header_32_of(&t)->e_machine = EM_X86_64; /* x32 */
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
}

static void elf32_that_is_wrong(void **state)
{
	(void)state;
	make_elf32(&t, false);
	fails(ENOEXEC, "a 32-bit ELF file without a PVH note");
	make_elf32(&t, true);
	for (size_t size = 5; size < ELF_FILE_SIZE; size++) {
		t.size = size;
		fails(ENOEXEC, "cut short");
	}
	t.size = 51;
	fails(ENOEXEC, "cut short: 1 bytes of its ELF header are missing");
	t.size = 52 + 3 * 32 - 7;
	fails(ENOEXEC, "cut short: 7 bytes of its program headers are missing");
	t.size = ELF_FILE_SIZE;
	header_32_of(&t)->e_phentsize = sizeof(Elf64_Phdr);
	fails(ENOEXEC, "program headers of 56 bytes");
	header_32_of(&t)->e_phentsize = sizeof(Elf32_Phdr);
	segment_32_of(&t, TEST_DATA)->p_offset = UINT32_MAX;
	fails(ENOEXEC, "4096 of the 4096 bytes of segment 1 are missing");
	segment_32_of(&t, TEST_DATA)->p_offset = ELF_DATA_OFFSET;
	segment_32_of(&t, TEST_DATA)->p_paddr = ELF_TEXT_GPA + 0xfff;
	fails(ENOEXEC, "segments 0 and 1 overlap at 0x100fff");
	segment_32_of(&t, TEST_DATA)->p_paddr = UINT32_MAX;
	fails(ENOMEM, "does not lie below 0xc0000000");
}

/* Without a PVH note such a kernel would be entered where it is not 64-bit code. */
static void multiboot(void **state)
{
	static const char says[] = "this is a Multiboot kernel: use one with a PVH note";

	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		make_elf(&t, true);
		put_multiboot(&t, version, ELF_TEXT_OFFSET);
		assert_int_equal(load_image(&memory, &t, &loaded), 0);
		assert_int_equal(loaded.kind, IMAGE_ELF_PVH);
		make_elf(&t, false);
		put_multiboot(&t, version, ELF_TEXT_OFFSET);
		fails(ENOEXEC, says);
		t.bytes[ELF_TEXT_OFFSET + 4] ^= 1; /* the sum is not 0 */
		assert_int_equal(load_image(&memory, &t, &loaded), 0);
		assert_int_equal(loaded.kind, IMAGE_ELF_LINUX64);
		make_elf32(&t, false);
		put_multiboot(&t, version, ELF_TEXT_OFFSET);
		fails(ENOEXEC, says);
	}
	make_elf(&t, false);
	put_multiboot(&t, 1, 8192 - 12);
	fails(ENOEXEC, says);
	make_elf(&t, false);
	put_multiboot(&t, 1, 8192 - 8);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	put_multiboot(&t, 2, 8192);
	fails(ENOEXEC, says);
}

static void not_a_program(void **state)
{
	(void)state;
	elf_of(&t)->e_type = ET_REL;
	fails(ENOEXEC, "an ELF file of type 1, not a linked program");
}

static void header_numbers(void **state)
{
	(void)state;
	elf_of(&t)->e_phnum = 0;
	fails(ENOEXEC, "without program headers");
	elf_of(&t)->e_phnum = 0xffff;
	fails(ENOEXEC, "65535 program headers, 64 at most");
	elf_of(&t)->e_phnum = TEST_SEGMENTS;
	elf_of(&t)->e_phentsize = 32;
	fails(ENOEXEC, "program headers of 32 bytes");
	elf_of(&t)->e_phentsize = sizeof(Elf64_Phdr);
	elf_of(&t)->e_phoff = UINT64_MAX - 8;
	fails(ENOEXEC, "168 bytes of its program headers are missing");
}

static void nothing_to_load(void **state)
{
	(void)state;
	segment_of(&t, TEST_TEXT)->p_type = PT_NULL;
	segment_of(&t, TEST_DATA)->p_filesz = 0;
	segment_of(&t, TEST_DATA)->p_memsz = 0;
	fails(ENOEXEC, "nothing to load");
}

static void file_range_overflows(void **state)
{
	(void)state;
	segment_of(&t, TEST_DATA)->p_offset = UINT64_MAX - 0xfff;
	fails(ENOEXEC, "4096 of the 4096 bytes of segment 1 are missing");
	segment_of(&t, TEST_DATA)->p_offset = ELF_DATA_OFFSET;
	segment_of(&t, TEST_DATA)->p_filesz = UINT64_MAX;
	fails(ENOEXEC, "cut short or damaged");
}

/* Where a segment of no bytes lies in the file does not matter. */
static void empty_segments_anywhere(void **state)
{
	(void)state;
	segment_of(&t, TEST_NOTE)->p_filesz = 0;
	segment_of(&t, TEST_NOTE)->p_offset = UINT64_MAX - 7;
	segment_of(&t, TEST_DATA)->p_filesz = 0;
	segment_of(&t, TEST_DATA)->p_offset = 1ull << 63;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_LINUX64);
	assert_int_equal(loaded.end, ELF_DATA_GPA + segment_of(&t, TEST_DATA)->p_memsz);
}

static void more_in_the_file_than_in_memory(void **state)
{
	(void)state;
	segment_of(&t, TEST_DATA)->p_memsz = 0xfff;
	fails(ENOEXEC, "segment 1 has 4096 bytes in the file, but only 4095 in memory");
}

static void outside_of_memory(void **state)
{
	Elf64_Phdr *data = segment_of(&t, TEST_DATA);

	(void)state;
	data->p_paddr = MEMORY_SIZE - 0x1000;
	fails(ENOMEM, "segment 1 does not fit: it ends 524288 bytes behind the 4 MiB of memory: "
		      "use --memory 5M or more");
	data->p_paddr = 0xd0000000;
	fails(ENOMEM, "(0x81000 bytes at 0xd0000000) does not lie below 0xc0000000");
	data->p_paddr = UINT64_MAX - 0x10;
	fails(ENOMEM, "does not lie below 0xc0000000");
	data->p_paddr = ELF_DATA_GPA;
	data->p_memsz = UINT64_MAX;
	fails(ENOMEM, "does not lie below 0xc0000000");
	assert_int_equal(touched_bytes(&memory), 0x1000);
}

static void over_reserved_areas(void **state)
{
	static const uint64_t reserved[] = {
		0, 0x1000, 0x6000, 0x2ffff, 0x9f001, 0xd0000, 0xfffff
	};
	Elf64_Phdr *text = segment_of(&t, TEST_TEXT);

	(void)state;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		text->p_paddr = reserved[i];
		fails(ENOMEM, "link it to 0x100000 or above");
	}
	assert_int_equal(touched_bytes(&memory), 0);
	text->p_paddr = 0x30000;
	elf_of(&t)->e_entry = 0x30000;
	segment_of(&t, TEST_NOTE)->p_type = PT_NULL;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
}

static void overlapping_segments(void **state)
{
	(void)state;
	segment_of(&t, TEST_DATA)->p_paddr = ELF_TEXT_GPA + 0xfff;
	fails(ENOEXEC, "segments 0 and 1 overlap at 0x100fff");
	segment_of(&t, TEST_DATA)->p_paddr = ELF_TEXT_GPA + 0x1000;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
}

static void entry_outside_of_segments(void **state)
{
	(void)state;
	make_elf(&t, false);
	elf_of(&t)->e_entry = ELF_TEXT_GPA + 0x1000;
	fails(ENOEXEC, "its entry 0x101000 lies in none of its segments");
	elf_of(&t)->e_entry = 0x401000 | 1ull << 40;
	fails(ENOEXEC, "lies in none of its segments");
}

static void notes_with_hostile_sizes(void **state)
{
	Elf64_Nhdr *first = note_of(&t);
	Elf64_Nhdr *pvh = (void *)(t.bytes + ELF_NOTE_OFFSET + 12 + 8 + 4);

	(void)state;
	pvh->n_descsz = 9;
	fails(ENOEXEC, "the note at byte 0x218 is 1 bytes longer than its segment");
	pvh->n_descsz = 0xffffffff;
	pvh->n_namesz = 0xffffffff;
	fails(ENOEXEC, "longer than its segment");
	pvh->n_descsz = 0;
	fails(ENOEXEC, "longer than its segment");
	pvh->n_namesz = 4;
	fails(ENOEXEC, "a PVH entry note of 0 bytes");
	first->n_namesz = 0xfffffffd;
	first->n_descsz = 0xfffffffd;
	fails(ENOEXEC, "the note at byte 0x200 is");
	make_elf(&t, true);
	segment_of(&t, TEST_NOTE)->p_offset = ELF_FILE_SIZE - 3;
	fails(ENOEXEC, "of segment 2 are missing");
	segment_of(&t, TEST_NOTE)->p_filesz = 3;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_LINUX64);
}

static void note_of_32_bits_and_aligned_to_8(void **state)
{
	const uint32_t note[] = { 4, 4, 18, 0x006e6558, ELF_PVH_ENTRY };

	(void)state;
	memcpy(t.bytes + ELF_NOTE_OFFSET, note, sizeof(note));
	segment_of(&t, TEST_NOTE)->p_align = 8;
	segment_of(&t, TEST_NOTE)->p_filesz = sizeof(note);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_ELF_PVH);
	assert_int_equal(loaded.entry, ELF_PVH_ENTRY);
}

/* Any header whatever ends in a load or a sentence, and writes nothing outside of the segments. */
static void random_headers(void **state)
{
	unsigned loads = 0;

	(void)state;
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		int ret;

		(i & 1 ? make_elf32 : make_elf)(&t, rand() % 4 > 0);
		for (int flips = rand() % 3; flips >= 0; flips--)
			t.bytes[4 + rand() % 0x240] = (uint8_t)(rand() % 3 ? rand() : 0xff);
		ret = load_image(&memory, &t, &loaded);
		if (ret == 0)
			loads++;
		else
			assert_true(ret == -ENOEXEC || ret == -ENOMEM);
	}
	assert_true(loads > 1000 && loads < 19000);
	assert_int_equal(*(uint64_t *)memory_at(&memory, 0x6000, 8), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(pvh_entry_and_segments),
		CASE(linux64_without_note),
		CASE(linux64_with_other_owner),
		CASE(bss_and_zero_pages_are_not_touched),
		CASE(truncated_anywhere),
		CASE(other_machines),
		CASE(elf32_with_pvh_note),
		CASE(elf32_that_is_wrong),
		CASE(multiboot),
		CASE(not_a_program),
		CASE(header_numbers),
		CASE(nothing_to_load),
		CASE(file_range_overflows),
		CASE(empty_segments_anywhere),
		CASE(more_in_the_file_than_in_memory),
		CASE(outside_of_memory),
		CASE(over_reserved_areas),
		CASE(overlapping_segments),
		CASE(entry_outside_of_segments),
		CASE(notes_with_hostile_sizes),
		CASE(note_of_32_bits_and_aligned_to_8),
		CASE(random_headers),
	};

	return cmocka_run_group_tests_name("elf", tests, NULL, NULL);
}
