/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in guest memory a kernel may lie, and the copy that puts it there. The
 * addresses themselves are in arch/x86_64/layout.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/x86_64/layout.h"
#include "boot/boot.h"

/* Below this, a fault or two is cheaper than a system call. */
#define PLACE_WRITE_MIN (16 * LAYOUT_PAGE_SIZE)

#define MIB             ((uint64_t)1 << 20)

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

/* Pages written through the descriptor are not cleared first, and not mapped one fault at a time. */
static void place_write(const struct memory *memory, uint8_t *to, const uint8_t *data, size_t len)
{
	ssize_t done = -1;

	if (memory->fd >= 0 && !memory->cow && len >= PLACE_WRITE_MIN)
		done = pwrite(memory->fd, data, len, to - memory->base);
	if (done < 0)
		done = 0;
	memcpy(to + done, data + done, len - (size_t)done);
}

/* Bytes from gpa on that are all zero pages, or all others: as far as the first of the other kind. */
static size_t place_run(uint64_t gpa, const uint8_t *data, size_t len, bool *zero)
{
	size_t run = 0;

	while (run < len) {
		size_t chunk = LAYOUT_PAGE_SIZE - (gpa + run) % LAYOUT_PAGE_SIZE;
		bool is_zero;

		if (chunk > len - run)
			chunk = len - run;
		is_zero = place_is_zero(data + run, chunk);
		if (run == 0)
			*zero = is_zero;
		else if (*zero != is_zero)
			break;
		run += chunk;
	}
	return run;
}

void boot_copy(const struct memory *memory, uint64_t gpa, const uint8_t *data, uint64_t len)
{
	uint8_t *to = memory_at(memory, gpa, len);

	while (to && len > 0) {
		bool zero = false;
		size_t run = place_run(gpa, data, len, &zero);

		if (!zero)
			place_write(memory, to, data, run);
		gpa += run;
		to += run;
		data += run;
		len -= run;
	}
}
