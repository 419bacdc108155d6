/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people take for a kernel most often: packed kernels, disks, firmware, kernels
 * of other machines and other loaders. Each is named, with what to do instead.
 */
#include <string.h>

#include "boot/boot.h"

#define MULTIBOOT1_MAGIC  0x1badb002u
#define MULTIBOOT1_SEARCH 8192u
#define MULTIBOOT2_MAGIC  0xe85250d6u
#define MULTIBOOT2_SEARCH 32768u

#define FIRMWARE_UNIT     0x10000u
#define FIRMWARE_RESET    16u /* the reset vector is so far from the end */

#define UNPACK            ": unpack it first"
#define NO_DISK           ": a guest has no disk, give --kernel and --initrd files out of it"
#define NO_FIRMWARE       ": a guest has none, give the kernel itself"

static bool image_starts(const struct image *image, size_t offset, const char *magic, size_t len)
{
	return image->size >= offset + len && memcmp(image->data + offset, magic, len) == 0;
}

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

const char *image_known_as(const struct image *image)
{
	static const struct {
		size_t offset;
		size_t len;
		const char *magic;
		const char *text;
	} known[] = {
		{ 0, 2, "\x1f\x8b", "compressed with gzip" UNPACK },
		{ 0, 4, "\x28\xb5\x2f\xfd", "compressed with zstd" UNPACK },
		{ 0, 6,
		  "\xfd"
		  "7zXZ",
		  "compressed with xz" UNPACK },
		{ 0, 4, "\x04\x22\x4d\x18", "compressed with lz4" UNPACK },
		{ 0, 3, "BZh", "compressed with bzip2" UNPACK },
		{ 0, 8, "!<arch>\n", "a package or an ar archive" UNPACK },
		{ 257, 5, "ustar", "a tar archive" UNPACK },
		{ 0, 5, "07070", "a cpio archive: is it the initrd?" },
		{ 56, 4, "ARM\x64", "a kernel for AArch64, not for x86-64" },
		{ 0, 2, "MZ", "a PE program without a Linux boot header" },
		{ 40, 4, "_FVH", "UEFI firmware" NO_FIRMWARE },
		{ 0, 4, "QFI\xfb", "a disk image (qcow2)" NO_DISK },
		{ 0, 4, "KDMV", "a disk image (VMDK)" NO_DISK },
		{ 0, 21, "# Disk DescriptorFile", "a disk image (VMDK)" NO_DISK },
		{ 0, 8, "vhdxfile", "a disk image (VHDX)" NO_DISK },
		{ 64, 4, "\x7f\x10\xda\xbe", "a disk image (VDI)" NO_DISK },
		{ 0x8001, 5, "CD001", "an ISO image" NO_DISK },
		{ 512, 8, "EFI PART", "a disk image (GPT)" NO_DISK },
		{ 510, 2, "\x55\xaa", "a disk image (it has a boot sector)" NO_DISK },
		{ 0x438, 2, "\x53\xef", "a file system (ext4)" NO_DISK },
		{ 0, 4, "hsqs", "a file system (squashfs)" NO_DISK },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (image_starts(image, known[i].offset, known[i].magic, known[i].len))
			return known[i].text;
	if (image_is_multiboot(image))
		return IMAGE_MULTIBOOT;
	return image_is_firmware(image) ? "firmware" NO_FIRMWARE : NULL;
}
