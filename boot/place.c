/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in guest memory a kernel may lie, and the copy that puts it there. The
 * addresses themselves are in arch/x86_64/layout.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "boot/boot.h"

#define MIB ((uint64_t)1 << 20)

static const struct place_reserved {
	uint64_t start;
	uint64_t end;
	const char *what;
} place_reserved[] = {
	{ 0, LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX, "the boot information" },
	{ LAYOUT_LOW_RAM_END, LAYOUT_HIGH_RAM, "the ACPI tables and the identity region" },
};

static int place_check_reserved(const struct image *image, const char *part, uint64_t gpa,
				uint64_t size)
{
	for (size_t i = 0; i < sizeof(place_reserved) / sizeof(place_reserved[0]); i++) {
		const struct place_reserved *r = &place_reserved[i];

		if (gpa < r->end && r->start < gpa + size)
			return failf(ENOMEM,
				     "kernel %s: %s (0x%" PRIx64 "-0x%" PRIx64
				     ") lies where %s must be (0x%" PRIx64 "-0x%" PRIx64
				     "): link it to 0x%x or above",
				     image->name, part, gpa, gpa + size, r->what, r->start, r->end,
				     LAYOUT_HIGH_RAM);
	}
	return 0;
}

int boot_check_range(const struct memory *memory, const struct image *image, const char *part,
		     uint64_t gpa, uint64_t size)
{
	uint64_t low_end = memory->regions[0].size;
	int ret;

	if (size > LAYOUT_HOLE_START || gpa > LAYOUT_HOLE_START - size)
		return failf(ENOMEM,
			     "kernel %s: %s (0x%" PRIx64 " bytes at 0x%" PRIx64
			     ") does not lie below 0x%llx, where the machine has RAM for kernels",
			     image->name, part, size, gpa, LAYOUT_HOLE_START);
	ret = place_check_reserved(image, part, gpa, size);
	if (ret < 0)
		return ret;
	if (gpa + size > low_end)
		return failf(ENOMEM,
			     "kernel %s: %s does not fit: it ends %" PRIu64
			     " bytes behind the %" PRIu64 " MiB of memory: use --memory %" PRIu64
			     "M or more",
			     image->name, part, gpa + size - low_end, low_end / MIB,
			     (gpa + size + MIB - 1) / MIB);
	return 0;
}

static bool place_is_zero(const uint8_t *data, size_t len)
{
	size_t i = 0;

	for (; i + 64 <= len; i += 64) {
		uint64_t w[8];

		memcpy(w, data + i, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	for (; i < len; i++)
		if (data[i])
			return false;
	return true;
}

void boot_copy(const struct memory *memory, uint64_t gpa, const uint8_t *data, uint64_t len)
{
	uint8_t *to = memory_at(memory, gpa, len);

	while (to && len > 0) {
		size_t chunk = LAYOUT_PAGE_SIZE - gpa % LAYOUT_PAGE_SIZE;

		if (chunk > len)
			chunk = len;
		if (!place_is_zero(data, chunk))
			memcpy(to, data, chunk);
		gpa += chunk;
		to += chunk;
		data += chunk;
		len -= chunk;
	}
}
