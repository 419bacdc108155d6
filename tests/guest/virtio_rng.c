/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the entropy device twice, and looks whether it was given two different things. */
#include "tests/guest/driver.h"

#define BYTES 32u

static void find(uint32_t device)
{
	for (uint32_t slot = 0; slot < LAYOUT_VIRTIO_SLOTS; slot++) {
		base = LAYOUT_VIRTIO_MMIO + slot * LAYOUT_VIRTIO_STRIDE;
		if (*mmio32(base + MMIO_DEVICE) == device)
			return;
	}
	fail("no such device");
}

static void ask(uint16_t i)
{
	describe(0, i, (uint64_t)buffer[i], BYTES, F_WRITE);
	offer(0, i);
	if (queues[0].used.idx != i + 1u || queues[0].used.ring[i].len != BYTES)
		fail("a buffer did not come back full");
}

void guest_main(const struct pvh_info *info)
{
	unsigned same = 0, zero = 0;

	(void)info;
	find(4);
	device_begin(0);
	queue_start(0);
	mmio_write(MMIO_STATUS, 15);
	ask(0);
	ask(1);
	for (unsigned i = 0; i < BYTES; i++) {
		same += buffer[0][i] == buffer[1][i];
		zero += buffer[0][i] == 0;
	}
	if (same > BYTES / 2 || zero > BYTES / 2)
		fail("what came back is not random");
	if (buffer[0][BYTES] != 0)
		fail("more was written than is said");
	success();
}
