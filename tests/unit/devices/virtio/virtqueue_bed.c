/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/devices/virtio/virtqueue_bed.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/devices/virtio/virtqueue_bed.h"

struct virtqueue_bed bed;

int bed_setup(void **state)
{
	(void)state;
	if (memory_create(&bed.memory, BED_RAM))
		return -1;
	ring_init(&bed.ring, &bed.memory, BED_RING, BED_SIZE);
	virtqueue_init(&bed.queue, &bed.memory);
	ring_describe(&bed.ring, &bed.queue.state);
	bed.queue.indirect = true;
	return virtqueue_enable(&bed.queue) ? 0 : -1;
}

int bed_teardown(void **state)
{
	(void)state;
	memory_destroy(&bed.memory);
	return 0;
}

void bed_assert_broken(void)
{
	assert_false(virtqueue_pop(&bed.queue, &bed.chain));
	assert_non_null(bed.queue.broken);
	/* And it stays so. */
	assert_false(virtqueue_pop(&bed.queue, &bed.chain));
	assert_false(virtqueue_arm(&bed.queue));
}
