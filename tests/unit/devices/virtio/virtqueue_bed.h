/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue on a ring that the test fills.
 */
#ifndef VIRGA_TESTS_UNIT_VIRTQUEUE_BED_H
#define VIRGA_TESTS_UNIT_VIRTQUEUE_BED_H

#include "devices/virtio/virtqueue.h"
#include "tests/unit/devices/virtio/ring.h"

#define BED_RAM    (64ull << 20)
#define BED_RING   0x10000u
#define BED_BUFFER 0x100000u
#define BED_TABLE  0x80000u
#define BED_SIZE   8

struct virtqueue_bed {
	struct memory memory;
	struct ring ring;
	struct virtqueue queue;
	struct virtqueue_chain chain; /* of the last virtqueue_pop() */
};

extern struct virtqueue_bed bed;

/* Of every test: an enabled queue, indirect descriptors negotiated. */
int bed_setup(void **state);
int bed_teardown(void **state);

/* Fails unless the next descriptor breaks the queue, for good. */
void bed_assert_broken(void);

#endif
