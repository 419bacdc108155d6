/* SPDX-License-Identifier: Apache-2.0 */
/* The identity region: filled before the first instruction. Prints the generation id. */
#include "tests/guest/guest.h"

static bool all_zero(const volatile uint8_t *bytes, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

void guest_main(const struct pvh_info *info)
{
	const volatile struct identity *self = identity();
	uint64_t start = rdtsc();

	(void)info;
	if (self->magic != IDENTITY_MAGIC || self->version != IDENTITY_VERSION)
		fail("magic or version");
	if (self->length < sizeof(*self) || self->length > LAYOUT_IDENTITY_SIZE)
		fail("length");
	if (all_zero(self->generation_id, sizeof(self->generation_id)) ||
	    all_zero(self->seed, sizeof(self->seed)))
		fail("generation id or seed are zero");
	if (self->tsc_khz < 100000 || self->tsc_khz > 20000000)
		fail("tsc_khz");
	/* The guest began less than ten seconds after the region was filled, not before. */
	if (start < self->tsc || start - self->tsc > 10000ull * self->tsc_khz)
		fail("tsc");
	if (self->wall_clock_ns < 1700000000ull * 1000000000)
		fail("wall clock");
	if (self->clone != 0)
		fail("the number of the clone is not 0");
	print("id ");
	print_hex(self->generation_id, sizeof(self->generation_id));
	print("\nseed ");
	print_hex(self->seed, sizeof(self->seed));
	print("\nwall ");
	print_number(self->wall_clock_ns);
	print("\n");
	success();
}
