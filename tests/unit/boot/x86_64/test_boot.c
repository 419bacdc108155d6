/* SPDX-License-Identifier: Apache-2.0 */
/* A cold boot as the guest finds it in memory, and what does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "boot/x86_64/linux.h"
#include "tests/unit/images.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct memory memory;
static struct test_image t;
static struct image kernel, initrd;
static struct boot_source source;
static struct boot_regs regs;

/* Offsets in hvm_start_info and in its map's entries, from Xen's header. */
enum { INFO_VERSION = 4, INFO_MODULE_COUNT = 12, INFO_MODULES = 16, INFO_CMDLINE = 24 };
enum { INFO_RSDP = 32, INFO_MAP = 40, INFO_MAP_COUNT = 48, MAP_ENTRY = 24, MAP_TYPE = 16 };

static int setup(void **state)
{
	(void)state;
	source = (struct boot_source){ .kernel = &kernel, .cmdline = "", .vcpu_count = 1 };
	return memory_create(&memory, 128 * MIB);
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(&memory);
	free_image(&kernel);
	kernel = (struct image){ 0 };
	free(*state);
	return 0;
}

static void resize(uint64_t size)
{
	memory_destroy(&memory);
	assert_int_equal(memory_create(&memory, size), 0);
}

static int boot(void)
{
	free_image(&kernel);
	kernel = copy_image(&t, t.size);
	return boot_load(&memory, &source, &regs);
}

static void boots(void)
{
	if (boot() != 0)
		fail_msg("%s", error_text());
}

static void fails(int err, const char *sentence)
{
	assert_int_equal(boot(), -err);
	assert_string_equal(error_text(), sentence);
}

static uint64_t guest64(uint64_t gpa)
{
	uint64_t value;

	assert_int_equal(memory_read(&memory, gpa, &value, sizeof(value)), 0);
	return value;
}

static uint32_t guest32(uint64_t gpa)
{
	return (uint32_t)guest64(gpa);
}

static void make_initrd(size_t size)
{
	static uint8_t bytes[64 * 1024];

	memset(bytes, 0xa5, sizeof(bytes));
	initrd = (struct image){ .name = "rd.cpio", .data = bytes, .size = size };
	source.initrd = &initrd;
	assert_true(size <= sizeof(bytes));
}

static void check_map(uint64_t size, const uint64_t *expected, unsigned count)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	struct memory m;

	memory_layout(&m, size);
	assert_int_equal(boot_memory_map(&m, map), count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(map[i].addr, expected[3 * i]);
		assert_int_equal(map[i].addr + map[i].size, expected[3 * i + 1]);
		assert_int_equal(map[i].type, expected[3 * i + 2]);
	}
}

static void memory_maps(void **state)
{
	uint64_t map[] = {
		0,        0xa0000,  1, /* */
		0xa0000,  0x100000, 2, /* */
		0x100000, 0,        1, /* */
		4 * GIB,  7 * GIB,  1,
	};

	(void)state;
	map[7] = 4 * MIB;
	check_map(4 * MIB, map, 3);
	map[7] = 128 * MIB;
	check_map(128 * MIB, map, 3);
	map[7] = 3 * GIB;
	check_map(3 * GIB, map, 3);
	check_map(6 * GIB, map, 4);
}

static void pvh_start_info(void **state)
{
	uint64_t info, map;

	(void)state;
	make_elf(&t, true);
	make_initrd(5000);
	source.cmdline = "quiet panic=-1";
	boots();
	assert_int_equal(regs.entry, BOOT_ENTRY_PVH);
	assert_int_equal(regs.ip, ELF_PVH_ENTRY);
	info = regs.info;
	assert_int_equal(guest32(info), 0x336ec578);
	assert_int_equal(guest32(info + INFO_VERSION), 1);
	assert_string_equal(memory_at(&memory, guest64(info + INFO_CMDLINE), 15), "quiet panic=-1");
	assert_memory_equal(memory_at(&memory, guest64(info + INFO_RSDP), 8), "RSD PTR ", 8);
	assert_int_equal(guest32(info + INFO_MODULE_COUNT), 1);
	assert_int_equal(guest64(guest64(info + INFO_MODULES)), 128 * MIB - 8192);
	assert_int_equal(guest64(guest64(info + INFO_MODULES) + 8), 5000);
	assert_int_equal(guest32(info + INFO_MAP_COUNT), 3);
	map = guest64(info + INFO_MAP);
	assert_int_equal(guest64(map + MAP_ENTRY), LAYOUT_LOW_RAM_END);
	assert_int_equal(guest32(map + MAP_ENTRY + MAP_TYPE), MEMORY_MAP_RESERVED);
	assert_int_equal(guest64(map + 2 * MAP_ENTRY + 8), 127 * MIB);
}

static void pvh_without_anything(void **state)
{
	(void)state;
	make_elf(&t, true);
	boots();
	assert_int_equal(guest64(regs.info + INFO_CMDLINE), 0);
	assert_int_equal(guest32(regs.info + INFO_MODULE_COUNT), 0);
	/* Text, data, ACPI tables, reset vector and start information: a page each. */
	assert_int_equal(touched_bytes(&memory), 5 * LAYOUT_PAGE_SIZE);
}

/* What Linux jumps to when it restarts a hardware-reduced machine: it uses the device there is. */
static void reset_vector(void **state)
{
	static const struct device_power power = { .reset = 0x1234, .reset_value = 0x5a };
	static const struct device_class class = { .name = "any", .power = &power };
	struct device list[] = { { .class = &class } };
	const struct devices devices = { .count = 1, .list = list };

	(void)state;
	make_elf(&t, true);
	boots();
	assert_memory_equal(memory_at(&memory, 0xffff0, 8), "\xfa\xf4\0\0\0\0\0\0", 8);
	source.devices = &devices;
	resize(128 * MIB);
	boots();
	assert_memory_equal(memory_at(&memory, 0xffff0, 8), "\xb0\x5a\xba\x34\x12\xee\xfa\xf4", 8);
}

static const struct linux_zero_page *zero_page(void)
{
	assert_int_equal(regs.entry, BOOT_ENTRY_LINUX64);
	assert_int_equal(regs.info, LAYOUT_ZERO_PAGE);
	return memory_at(&memory, regs.info, sizeof(struct linux_zero_page));
}

static void check_zero_page(void)
{
	const struct linux_zero_page *page = zero_page();

	assert_int_equal(page->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_int_equal(page->e820_entries, 3);
	assert_int_equal(page->e820[2].addr, MIB);
	assert_int_equal(page->e820[2].size, 127 * MIB);
	assert_int_equal(page->e820[2].type, MEMORY_MAP_RAM);
	assert_int_equal(page->header.boot_flag, 0xaa55);
	assert_int_equal(page->header.magic, 0x53726448);
	assert_int_equal(page->header.type_of_loader, 0xff);
	assert_int_equal(page->header.loadflags, 1);
	assert_string_equal(memory_at(&memory, page->header.cmd_line_ptr, 16), "console=ttyS0");
	assert_int_equal(page->header.ramdisk_image, 128 * MIB - 0x10000);
	assert_int_equal(page->header.ramdisk_size, 0xf001);
	assert_memory_equal(memory_at(&memory, page->header.ramdisk_image, 0xf001), initrd.data,
			    0xf001);
}

static void linux64_zero_page(void **state)
{
	(void)state;
	make_elf(&t, false);
	make_initrd(0xf001);
	source.cmdline = "console=ttyS0";
	boots();
	assert_int_equal(regs.ip, ELF_ENTRY);
	check_zero_page();
}

/* The kernel's own header, but nothing of the file around it. */
static void bzimage_zero_page(void **state)
{
	(void)state;
	make_bzimage(&t);
	memset(t.bytes, 0xff, LINUX_HEADER_OFFSET);
	make_initrd(0xf001);
	source.cmdline = "console=ttyS0";
	boots();
	assert_int_equal(regs.ip, BZIMAGE_GPA + 0x200);
	check_zero_page();
	assert_int_equal(zero_page()->header.init_size, BZIMAGE_INIT_SIZE);
	assert_int_equal(*(const uint8_t *)memory_at(&memory, LAYOUT_ZERO_PAGE + 0x1ef, 1), 0);
}

static void builtin_guest(void **state)
{
	const struct image builtin = image_builtin();

	(void)state;
	resize(4 * MIB);
	source.kernel = &builtin;
	assert_int_equal(boot_load(&memory, &source, &regs), 0);
	assert_int_equal(regs.entry, BOOT_ENTRY_PVH);
}

static void initrd_with_6_gib(void **state)
{
	(void)state;
	resize(6 * GIB);
	make_elf(&t, true);
	make_initrd(4096);
	boots();
	assert_int_equal(guest64(guest64(regs.info + INFO_MODULES)), 3 * GIB - 4096);
	make_bzimage(&t);
	boots();
	assert_int_equal(zero_page()->header.ramdisk_image, 2 * GIB - 4096);
}

static void initrd_too_big(void **state)
{
	(void)state;
	resize(4 * MIB);
	make_elf(&t, true);
	segment_of(&t, TEST_DATA)->p_memsz = 0x1f8001; /* leaves 7 pages */
	make_initrd(7 * 4096);
	boots();
	make_initrd(7 * 4096 + 1);
	fails(ENOMEM,
	      "initrd rd.cpio: 28673 bytes do not fit between the kernel's end (0x3f9000) and "
	      "0x400000: 4096 bytes too many: give the guest more with --memory");
}

static void initrd_over_the_kernels_limit(void **state)
{
	(void)state;
	make_bzimage(&t);
	make_initrd(8192);
	header_of(&t)->initrd_addr_max = BZIMAGE_GPA + BZIMAGE_INIT_SIZE + 8191;
	boots();
	assert_int_equal(zero_page()->header.ramdisk_image, BZIMAGE_GPA + BZIMAGE_INIT_SIZE);
	header_of(&t)->initrd_addr_max -= 1;
	fails(ENOMEM, "initrd rd.cpio: 8192 bytes do not fit between the kernel's end (0x1200000) "
		      "and 0x1201000: 4096 bytes too many: this kernel takes none higher up");
	header_of(&t)->initrd_addr_max = 0;
	assert_int_equal(boot(), -ENOMEM);
}

static void cmdline_too_long(void **state)
{
	char *cmdline = calloc(1, LAYOUT_CMDLINE_MAX + 1);

	*state = cmdline;
	source.cmdline = cmdline;
	make_bzimage(&t);
	memset(cmdline, 'x', 2047);
	boots();
	cmdline[2047] = 'x';
	fails(E2BIG, "command line: 2048 bytes, but this kernel takes 2047: shorten it by 1");
	header_of(&t)->cmdline_size = 0xffffffff;
	boots();
	memset(cmdline, 'x', LAYOUT_CMDLINE_MAX);
	fails(E2BIG, "command line: 65536 bytes, but this kernel takes 65535: shorten it by 1");
	make_elf(&t, false);
	fails(E2BIG, "command line: 65536 bytes, but this kernel takes 2047: shorten it by 63489");
	make_elf(&t, true);
	cmdline[LAYOUT_CMDLINE_MAX - 1] = '\0';
	boots();
	name_guest_os(&t, "FreeBSD");
	boots();
	name_guest_os(&t, "linux");
	fails(E2BIG, "command line: 65535 bytes, but this kernel takes 2047: shorten it by 63488");
	cmdline[2048] = '\0';
	fails(E2BIG, "command line: 2048 bytes, but this kernel takes 2047: shorten it by 1");
	cmdline[2047] = '\0';
	boots();
	assert_int_equal(regs.entry, BOOT_ENTRY_PVH);
	make_elf(&t, true); /* Linux without Xen says so by its banner only */
	memcpy(t.bytes + ELF_DATA_OFFSET, "Linux version 6.1", 17);
	cmdline[2047] = 'x';
	fails(E2BIG, "command line: 2048 bytes, but this kernel takes 2047: shorten it by 1");
}

static void memory_of_a_megabyte(void **state)
{
	(void)state;
	make_elf(&t, true);
	resize(MIB);
	fails(EINVAL, "1048576 bytes of memory are too few to boot in");
}

static void not_a_kernel(const void *bytes, size_t size, const char *sentence)
{
	memset(&t, 0, sizeof(t));
	memcpy(t.bytes, bytes, size);
	t.size = size;
	fails(ENOEXEC, sentence);
}

static void files_that_are_no_kernels(void **state)
{
	uint8_t arm64[64] = "MZ";

	(void)state;
	not_a_kernel("hello\nworld\n", 12,
		     "kernel test: this is not a kernel image (starts with \"hello\"): virga boots "
		     "bzImage and x86-64 ELF");
	not_a_kernel(
		"#!/bin/sh -e and a long line\n", 29,
		"kernel test: this is not a kernel image (starts with \"#!/bin/sh -e and a long "
		"\"): virga boots bzImage and x86-64 ELF");
	not_a_kernel("x", 1,
		     "kernel test: this is not a kernel image (starts with \"x\"): virga boots "
		     "bzImage and x86-64 ELF");
	not_a_kernel("\xeb\x3c\x90mkfs.fat", 11,
		     "kernel test: this is not a kernel image (starts with bytes eb 3c 90 6d 6b 66 "
		     "73 2e): virga boots bzImage and x86-64 ELF");
	not_a_kernel("\x7f", 1,
		     "kernel test: this is not a kernel image (starts with bytes 7f): virga boots "
		     "bzImage and x86-64 ELF");
	not_a_kernel("\x1f\x8b\x08", 3,
		     "kernel test: this is compressed with gzip: unpack it first; virga boots "
		     "bzImage and x86-64 ELF");
	memcpy(arm64 + 56, "ARM\x64", 4);
	not_a_kernel(arm64, sizeof(arm64),
		     "kernel test: this is a kernel for AArch64, not for x86-64; virga boots "
		     "bzImage and x86-64 ELF");
	not_a_kernel("070701", 6,
		     "kernel test: this is a cpio archive: is it the initrd?; virga boots "
		     "bzImage and x86-64 ELF");
}

/* What is taken for a kernel is named by what is at an offset of it, with what to do instead. */
static void what_is_taken_for_a_kernel(void **state)
{
	static const struct {
		const char *magic;
		size_t len;
		size_t offset;
		size_t size;
		const char *says;
	} cases[] = {
		{ "BZh91AY", 7, 0, 100, "compressed with bzip2: unpack it first" },
		{ "!<arch>\n", 8, 0, 100, "a package or an ar archive: unpack it first" },
		{ "ustar", 5, 257, 512, "a tar archive: unpack it first" },
		{ "_FVH", 4, 40, 4096, "UEFI firmware: a guest has none" },
		{ "\xea\x5b\xe0\0\xf0", 5, 0x3fff0, 0x40000, "firmware: a guest has none" },
		{ "\xe9\x0f\xff", 3, 0xfff0, 0x10000, "firmware: a guest has none" },
		{ "QFI\xfb", 4, 0, 4096, "a disk image (qcow2): a guest has no disk" },
		{ "KDMV", 4, 0, 4096, "a disk image (VMDK): a guest has no disk" },
		{ "# Disk DescriptorFile", 21, 0, 400, "a disk image (VMDK): a guest has no" },
		{ "vhdxfile", 8, 0, 4096, "a disk image (VHDX): a guest has no disk" },
		{ "\x7f\x10\xda\xbe", 4, 64, 512, "a disk image (VDI): a guest has no disk" },
		{ "CD001", 5, 0x8001, 0x9000, "an ISO image: a guest has no disk" },
		{ "EFI PART", 8, 512, 4096, "a disk image (GPT): a guest has no disk" },
		{ "\x55\xaa", 2, 510, 512, "a disk image (boot sector): a guest has no" },
		{ "\x53\xef", 2, 0x438, 4096, "a file system (ext4): a guest has no disk" },
		{ "hsqs", 4, 0, 4096, "a file system (squashfs): a guest has no disk" },
	};
	uint8_t *bytes = calloc(1, 0x40000);

	*state = bytes;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct image image = { "test", bytes, cases[i].size, false };
		enum image_kind kind;

		memset(bytes, 0, 0x40000);
		memcpy(bytes + cases[i].offset, cases[i].magic, cases[i].len);
		assert_int_equal(image_identify(&image, &kind), -ENOEXEC);
		assert_says("kernel test: this is ");
		assert_says(cases[i].says);
	}
	/* The last byte that tells is looked at where there is one, none behind it. */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const size_t end = cases[i].offset + cases[i].len;
		enum image_kind kind;

		if (end > IMAGE_MAX || !strncmp(cases[i].says, "firmware", 8))
			continue;
		memset(&t, 0, sizeof(t));
		memcpy(t.bytes + cases[i].offset, cases[i].magic, cases[i].len);
		for (t.size = end - 1; t.size <= end; t.size++) {
			struct image image = copy_image(&t, t.size);

			assert_int_equal(image_identify(&image, &kind), -ENOEXEC);
			free_image(&image);
		}
		assert_says(cases[i].says);
	}
	memset(&t, 0, sizeof(t));
	t.size = 0x8000; /* a jump where the reset vector is, but not whole 64 KiB */
	t.bytes[0x7ff0] = 0xea;
	fails(ENOEXEC, "kernel test: this is not a kernel image (starts with bytes 00 00 00 00 00 "
		       "00 00 00): virga boots bzImage and x86-64 ELF");
	t.size = 4096;
	put_multiboot(&t, 1, 64);
	fails(ENOEXEC, "kernel test: this is a Multiboot kernel: use one with a PVH note; virga "
		       "boots bzImage and x86-64 ELF");
}

static void open_fails(const char *path, int err, const char *text)
{
	struct image image = { 0 };

	assert_int_equal(image_open(&image, path), -err);
	assert_says(path);
	assert_says(text);
}

static void files_that_do_not_open(void **state)
{
	char *dir = strdup("/tmp/virga-boot-XXXXXX");
	char path[64];

	*state = dir;
	assert_non_null(mkdtemp(dir));
	open_fails(dir, EISDIR, "is a directory");
	snprintf(path, sizeof(path), "%s/file", dir);
	open_fails(path, ENOENT, "No such file");
	assert_int_equal(mkfifo(path, 0600), 0);
	open_fails(path, EINVAL, "is not a regular file");
	unlink(path);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	open_fails(path, ENOEXEC, "is empty");
	unlink(path);
	rmdir(dir);
}

static void file_that_opens(void **state)
{
	struct image image;

	(void)state;
	assert_int_equal(image_open(&image, "/proc/self/exe"), 0);
	assert_true(image.mapped && image.size > 64);
	assert_memory_equal(image.data, ELFMAG, SELFMAG);
	image_close(&image);
	assert_null(image.data);
	image_close(&image);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(memory_maps),
		CASE(pvh_start_info),
		CASE(pvh_without_anything),
		CASE(reset_vector),
		CASE(linux64_zero_page),
		CASE(bzimage_zero_page),
		CASE(builtin_guest),
		CASE(initrd_with_6_gib),
		CASE(initrd_too_big),
		CASE(initrd_over_the_kernels_limit),
		CASE(cmdline_too_long),
		CASE(memory_of_a_megabyte),
		CASE(files_that_are_no_kernels),
		CASE(what_is_taken_for_a_kernel),
		CASE(files_that_do_not_open),
		CASE(file_that_opens),
	};

	return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
