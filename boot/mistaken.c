/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people take for a kernel most often: packed kernels, disks, firmware, kernels
 * of other machines and other loaders. Each is named, with what to do instead.
 */
#include <errno.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/boot.h"

#define MULTIBOOT1_MAGIC  0x1badb002u
#define MULTIBOOT1_SEARCH 8192u
#define MULTIBOOT2_MAGIC  0xe85250d6u
#define MULTIBOOT2_SEARCH 32768u

#define FIRMWARE_UNIT     0x10000u
#define FIRMWARE_RESET    16u /* the reset vector is so far from the end */

enum mistaken_advice { NOTHING, UNPACK, INITRD, OTHER_CPU, PE, NO_FIRMWARE, NO_DISK };

static const char *const mistaken_advice[] = {
	[NOTHING] = "",
	[UNPACK] = ": unpack it first",
	[INITRD] = ": is it the initrd?",
	[OTHER_CPU] = ", not for x86-64",
	[PE] = " without a Linux boot header",
	[NO_FIRMWARE] = ": a guest has none, give the kernel itself",
	[NO_DISK] = ": a guest has no disk, give --kernel and --initrd files out of it",
};

/* No pointers in it: those of a static PIE are relocated at every start. */
static const struct mistaken {
	uint16_t offset;
	uint8_t len;
	uint8_t advice;
	char magic[8];
	char name[28];
} mistaken[] = {
	{ 0, 2, UNPACK, "\x1f\x8b", "compressed with gzip" },
	{ 0, 4, UNPACK, "\x28\xb5\x2f\xfd", "compressed with zstd" },
	{ 0, 6, UNPACK, { '\xfd', '7', 'z', 'X', 'Z' }, "compressed with xz" },
	{ 0, 4, UNPACK, "\x04\x22\x4d\x18", "compressed with lz4" },
	{ 0, 3, UNPACK, "BZh", "compressed with bzip2" },
	{ 0, 8, UNPACK, "!<arch>\n", "a package or an ar archive" },
	{ 257, 5, UNPACK, "ustar", "a tar archive" },
	{ 0, 5, INITRD, "07070", "a cpio archive" },
	{ 56, 4, OTHER_CPU, "ARM\x64", "a kernel for AArch64" },
	{ 0, 2, PE, "MZ", "a PE program" },
	{ 40, 4, NO_FIRMWARE, "_FVH", "UEFI firmware" },
	{ 0, 4, NO_DISK, "QFI\xfb", "a disk image (qcow2)" },
	{ 0, 4, NO_DISK, "KDMV", "a disk image (VMDK)" },
	{ 0, 8, NO_DISK, "# Disk D", "a disk image (VMDK)" },
	{ 0, 8, NO_DISK, "vhdxfile", "a disk image (VHDX)" },
	{ 64, 4, NO_DISK, "\x7f\x10\xda\xbe", "a disk image (VDI)" },
	{ 0x8001, 5, NO_DISK, "CD001", "an ISO image" },
	{ 512, 8, NO_DISK, "EFI PART", "a disk image (GPT)" },
	{ 510, 2, NO_DISK, "\x55\xaa", "a disk image (boot sector)" },
	{ 0x438, 2, NO_DISK, "\x53\xef", "a file system (ext4)" },
	{ 0, 4, NO_DISK, "hsqs", "a file system (squashfs)" },
};

static uint32_t image_word(const struct image *image, size_t offset)
{
	uint32_t word;

	memcpy(&word, image->data + offset, sizeof(word));
	return word;
}

/* Whether words of a header with this magic have a sum of 0, in the first `search` bytes. */
static bool image_has_header(const struct image *image, uint32_t magic, unsigned words,
			     size_t search)
{
	size_t end = image->size < search ? image->size : search;

	for (size_t at = 0; at + words * sizeof(uint32_t) <= end; at += sizeof(uint32_t)) {
		uint32_t sum = 0;

		if (image_word(image, at) != magic)
			continue;
		for (unsigned i = 0; i < words; i++)
			sum += image_word(image, at + i * sizeof(uint32_t));
		if (sum == 0)
			return true;
	}
	return false;
}

bool image_is_multiboot(const struct image *image)
{
	return image_has_header(image, MULTIBOOT1_MAGIC, 3, MULTIBOOT1_SEARCH) ||
	       image_has_header(image, MULTIBOOT2_MAGIC, 4, MULTIBOOT2_SEARCH);
}

/* A PC's firmware is whole 64 KiB and ends with the reset vector, where a jump is. */
static bool image_is_firmware(const struct image *image)
{
	const uint8_t *reset;

	if (image->size == 0 || image->size % FIRMWARE_UNIT != 0)
		return false;
	reset = image->data + image->size - FIRMWARE_RESET;
	return reset[0] == 0xea || reset[0] == 0xe9 || reset[0] == 0xeb;
}

static const struct mistaken *image_mistaken(const struct image *image)
{
	for (size_t i = 0; i < sizeof(mistaken) / sizeof(mistaken[0]); i++) {
		const struct mistaken *m = &mistaken[i];

		if (image->size >= m->offset + (size_t)m->len &&
		    memcmp(image->data + m->offset, m->magic, m->len) == 0)
			return m;
	}
	return NULL;
}

int image_refuse_known(const struct image *image)
{
	const struct mistaken *m = image_mistaken(image);
	const char *name = m ? m->name : NULL;
	unsigned advice = m ? m->advice : NOTHING;

	if (!m && image_is_multiboot(image)) {
		name = IMAGE_MULTIBOOT;
	} else if (!m && image_is_firmware(image)) {
		name = "firmware";
		advice = NO_FIRMWARE;
	}
	if (!name)
		return 0;
	return failf(ENOEXEC, "kernel %s: this is %s%s; " IMAGE_BOOTS, image->name, name,
		     mistaken_advice[advice]);
}
