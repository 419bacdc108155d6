/* SPDX-License-Identifier: Apache-2.0 */
/* bzImage: header fields against file and memory, and Debian's kernels when they are fetched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/x86_64/linux.h"
#include "tests/unit/images.h"

#define MEMORY_SIZE (32u << 20)

static struct memory memory;
static struct test_image t;
static struct loaded loaded;

static int setup(void **state)
{
	(void)state;
	make_bzimage(&t);
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
	make_bzimage(&t);
}

static void payload_to_its_address(void **state)
{
	(void)state;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.kind, IMAGE_BZIMAGE);
	assert_int_equal(loaded.entry, BZIMAGE_GPA + 0x200);
	assert_int_equal(loaded.end, BZIMAGE_GPA + BZIMAGE_INIT_SIZE);
	assert_memory_equal(memory_at(&memory, BZIMAGE_GPA, 0x2000), t.bytes + BZIMAGE_PAYLOAD,
			    0x2000);
	assert_int_equal(touched_bytes(&memory), 0x2000);
}

static void zero_setup_sects_is_four(void **state)
{
	(void)state;
	header_of(&t)->setup_sects = 0;
	memset(t.bytes + 5 * 512, 0x77, 16);
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(*(uint8_t *)memory_at(&memory, BZIMAGE_GPA, 1), 0x77);
}

static void truncated_anywhere(void **state)
{
	const size_t magic_end = 0x206;

	(void)state;
	for (size_t size = magic_end; size < BZIMAGE_SIZE - 15; size++) {
		t.size = size;
		fails(ENOEXEC, "cut short");
	}
	t.size = 0x260;
	fails(ENOEXEC, "8 bytes of its boot header are missing");
	t.size = BZIMAGE_SIZE - 100;
	fails(ENOEXEC, "12188 bytes, its header says 12288 (100 are missing)");
	t.size = BZIMAGE_PAYLOAD;
	fails(ENOEXEC, "(8192 are missing)");
}

/* syssize counts in 16 bytes: the last of them may be incomplete. */
static void last_unit_is_rounded_up(void **state)
{
	(void)state;
	t.size = BZIMAGE_SIZE - 15;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
}

static void trailing_bytes_are_not_loaded(void **state)
{
	(void)state;
	header_of(&t)->syssize = 0x1000 / 16;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(*(uint8_t *)memory_at(&memory, BZIMAGE_GPA + 0x1000, 1), 0);
}

static void kernels_of_another_kind(void **state)
{
	(void)state;
	header_of(&t)->version = 0x209;
	fails(ENOEXEC, "boot protocol 2.09 is too old, 2.12 (Linux 3.8) is needed");
	header_of(&t)->xloadflags = 0x7e;
	fails(ENOEXEC, "a 32-bit kernel");
	header_of(&t)->loadflags = 0;
	fails(ENOEXEC, "a zImage");
}

static void damaged_header(void **state)
{
	(void)state;
	header_of(&t)->boot_flag = 0;
	fails(ENOEXEC, "boot flag 0x0 in place of 0xaa55");
	header_of(&t)->jump_offset = 0x10;
	fails(ENOEXEC, "its boot header ends at byte 0x212");
	header_of(&t)->syssize = 0;
	fails(ENOEXEC, "0 bytes of code");
	header_of(&t)->syssize = 0x200 / 16;
	fails(ENOEXEC, "512 bytes of code");
	header_of(&t)->syssize = 0xffffffff;
	fails(ENOEXEC, "cut short");
	header_of(&t)->setup_sects = 0xff;
	fails(ENOEXEC, "cut short");
}

static void load_address(void **state)
{
	(void)state;
	header_of(&t)->kernel_alignment = 0;
	fails(ENOEXEC, "load address 0x1000000 with alignment 0x0");
	header_of(&t)->kernel_alignment = 0x180000;
	fails(ENOEXEC, "alignment 0x180000");
	header_of(&t)->pref_address += 0x1000;
	fails(ENOEXEC, "load address 0x1001000 with alignment 0x200000");
	header_of(&t)->pref_address = 0;
	fails(ENOMEM, "the unpacked kernel (0x0-0x200000) lies where the boot information must be");
	header_of(&t)->pref_address = 0x200000000;
	fails(ENOMEM, "does not lie below 0xc0000000");
	header_of(&t)->pref_address = 0xffffffffffe00000;
	fails(ENOMEM, "does not lie below 0xc0000000");
	assert_int_equal(touched_bytes(&memory), 0);
}

static void larger_than_memory(void **state)
{
	(void)state;
	header_of(&t)->init_size = 0x1000001;
	fails(ENOMEM,
	      "the unpacked kernel does not fit: it ends 1 bytes behind the 32 MiB of memory: "
	      "use --memory 33M or more");
	header_of(&t)->init_size = 0xffffffff;
	fails(ENOMEM, "does not lie below 0xc0000000");
	header_of(&t)->init_size = 0x1000000;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	header_of(&t)->init_size = 0;
	assert_int_equal(load_image(&memory, &t, &loaded), 0);
	assert_int_equal(loaded.end, BZIMAGE_GPA + 0x2000);
}

static void random_headers(void **state)
{
	unsigned loads = 0;

	(void)state;
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		int ret;

		make_bzimage(&t);
		for (int flips = rand() % 2; flips >= 0; flips--)
			t.bytes[LINUX_HEADER_OFFSET + (unsigned)rand() % 0x77] = (uint8_t)rand();
		ret = load_image(&memory, &t, &loaded);
		if (ret == 0)
			loads++;
		else
			assert_true(ret == -ENOEXEC || ret == -ENOMEM);
	}
	assert_true(loads > 1000 && loads < 19000);
	assert_int_equal(*(uint64_t *)memory_at(&memory, 0x6000, 8), 0);
}

/* Every vmlinuz and vmlinux that the nested tests have fetched, whole and cut short. */
static const char real_kernels[] = "build/nested/kernel-*/vmlinu[xz]";

static void debian_kernels(void **state)
{
	struct memory big;
	glob_t files;

	(void)state;
	assert_int_equal(glob(real_kernels, 0, NULL, &files), 0);
	for (size_t i = 0; i < files.gl_pathc; i++) {
		struct boot_source source = { .cmdline = "quiet", .vcpu_count = 1 };
		struct boot_regs regs;
		struct image image, cut;

		assert_int_equal(memory_create(&big, 128u << 20), 0);
		assert_int_equal(image_open(&image, files.gl_pathv[i]), 0);
		source.kernel = &image;
		if (boot_load(&big, &source, &regs))
			fail_msg("%s", error_text());
		cut = image;
		cut.size = image.size / 2;
		source.kernel = &cut;
		assert_int_equal(boot_load(&big, &source, &regs), -ENOEXEC);
		assert_says("cut short");
		memory_destroy(&big);
		assert_int_equal(memory_create(&big, 48u << 20), 0);
		source.kernel = &image;
		assert_int_equal(boot_load(&big, &source, &regs), -ENOMEM);
		assert_says("behind the 48 MiB of memory: use --memory ");
		memory_destroy(&big);
		image_close(&image);
	}
	globfree(&files);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(payload_to_its_address),
		CASE(zero_setup_sects_is_four),
		CASE(truncated_anywhere),
		CASE(last_unit_is_rounded_up),
		CASE(trailing_bytes_are_not_loaded),
		CASE(kernels_of_another_kind),
		CASE(damaged_header),
		CASE(load_address),
		CASE(larger_than_memory),
		CASE(random_headers),
	};
	const struct CMUnitTest real_tests[] = { cmocka_unit_test(debian_kernels) };
	int failed = cmocka_run_group_tests_name("bzimage", tests, NULL, NULL);
	glob_t files;

	if (glob(real_kernels, 0, NULL, &files) == 0) {
		failed += cmocka_run_group_tests_name("bzimage debian", real_tests, NULL, NULL);
		globfree(&files);
	}
	return failed;
}
