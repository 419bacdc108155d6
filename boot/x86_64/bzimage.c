/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage by its 64-bit entry (Linux/x86 boot protocol, 2.12 and later): the
 * real-mode part is not loaded, only its header read; the rest goes to the address
 * the kernel prefers and unpacks itself there.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/x86_64/linux.h"

/* Where the protected-mode kernel lies in the file. */
struct bzimage_payload {
	uint64_t offset;
	uint64_t size;
};

bool bzimage_matches(const struct image *image)
{
	return image->size >= LINUX_HEADER_MAGIC_OFFSET + 4 &&
	       memcmp(image->data + LINUX_HEADER_MAGIC_OFFSET, "HdrS", 4) == 0;
}

static int bzimage_check_header(const struct image *image, const struct linux_header *h)
{
	if (h->boot_flag != LINUX_BOOT_FLAG)
		return failf(ENOEXEC, "kernel %s: damaged: boot flag 0x%x in place of 0x%x",
			     image->name, h->boot_flag, LINUX_BOOT_FLAG);
	if (h->version < LINUX_VERSION_MIN)
		return failf(
			ENOEXEC,
			"kernel %s: boot protocol %u.%02u is too old, 2.12 (Linux 3.8) is needed",
			image->name, h->version >> 8, h->version & 0xff);
	if (!(h->xloadflags & LINUX_KERNEL_64))
		return failf(
			ENOEXEC,
			"kernel %s: a 32-bit kernel (it has no 64-bit entry): use one for x86-64",
			image->name);
	if (!(h->loadflags & LINUX_LOADED_HIGH))
		return failf(ENOEXEC, "kernel %s: a zImage, loaded below 1 MiB: use a bzImage",
			     image->name);
	if (LINUX_HEADER_MAGIC_OFFSET + h->jump_offset < LINUX_HEADER_OFFSET + sizeof(*h))
		return failf(ENOEXEC, "kernel %s: damaged: its boot header ends at byte 0x%x",
			     image->name, LINUX_HEADER_MAGIC_OFFSET + h->jump_offset);
	return 0;
}

int bzimage_header(const struct image *image, struct linux_header *header)
{
	const uint64_t end = LINUX_HEADER_OFFSET + sizeof(*header);

	if (image->size < end)
		return failf(ENOEXEC,
			     "kernel %s: cut short: %" PRIu64
			     " bytes of its boot header are missing",
			     image->name, end - image->size);
	memcpy(header, image->data + LINUX_HEADER_OFFSET, sizeof(*header));
	return bzimage_check_header(image, header);
}

static int bzimage_payload(const struct image *image, const struct linux_header *h,
			   struct bzimage_payload *payload)
{
	uint64_t sects = h->setup_sects ? h->setup_sects : LINUX_SETUP_SECTS_DEFAULT;
	uint64_t size = h->syssize * 16ull;
	uint64_t rest;

	payload->offset = (sects + 1) * LINUX_SECTOR;
	if (size <= LINUX_ENTRY_64)
		return failf(ENOEXEC,
			     "kernel %s: damaged: %" PRIu64 " bytes of code behind its header",
			     image->name, size);
	rest = image->size > payload->offset ? image->size - payload->offset : 0;
	/* syssize is rounded up, the file's length need not be. */
	if (rest + 15 < size)
		return failf(ENOEXEC,
			     "kernel %s: cut short: %zu bytes, its header says %" PRIu64
			     " (%" PRIu64 " are missing)",
			     image->name, image->size, payload->offset + size, size - rest);
	payload->size = size < rest ? size : rest;
	return 0;
}

static int bzimage_check_address(const struct image *image, const struct linux_header *h)
{
	uint64_t align = h->kernel_alignment;

	if (align == 0 || (align & (align - 1)) || h->pref_address % align)
		return failf(ENOEXEC,
			     "kernel %s: damaged: load address 0x%" PRIx64
			     " with alignment 0x%" PRIx64,
			     image->name, (uint64_t)h->pref_address, align);
	return 0;
}

int bzimage_load(const struct memory *memory, const struct image *image, uint64_t *entry,
		 uint64_t *end)
{
	struct linux_header header = { 0 };
	struct bzimage_payload payload = { 0 };
	uint64_t size;
	int ret = bzimage_header(image, &header);

	if (ret == 0)
		ret = bzimage_check_address(image, &header);
	if (ret == 0)
		ret = bzimage_payload(image, &header, &payload);
	if (ret < 0)
		return ret;
	/* Loaded lower, a kernel moves itself up to this address; so it is only where it wants to be. */
	size = header.init_size > payload.size ? header.init_size : payload.size;
	ret = boot_check_range(memory, image, "the unpacked kernel", header.pref_address, size);
	if (ret < 0)
		return ret;
	boot_copy(memory, header.pref_address, image->data + payload.offset, payload.size);
	*entry = header.pref_address + LINUX_ENTRY_64;
	*end = header.pref_address + size;
	return 0;
}
