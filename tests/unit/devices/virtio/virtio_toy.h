/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A made-up virtio device behind the MMIO transport, which counts what it is told and returns
 * every buffer as it is, and the guest's driver for it. The test that includes it wraps vm_irq,
 * vm_wake and vm_poll_add (tests/unit/arch/vm_calls.h).
 */
#ifndef VIRGA_TESTS_UNIT_VIRTIO_TOY_H
#define VIRGA_TESTS_UNIT_VIRTIO_TOY_H

#include "devices/virtio/mmio.h"
#include "tests/unit/devices/virtio/ring.h"

#define TOY_RAM        (1ull << 20)
#define TOY_RING(i)    (0x10000u + 0x4000u * (i))
#define TOY_BUFFER     0x80000u
#define TOY_SIZE       16
#define TOY_OWN_BIT    (1ull << 3)
#define TOY_QUEUES     2
#define TOY_REG_STATUS 0x070

struct toy {
	struct vm vm;
	struct virtio virtio;
	struct virtqueue queues[TOY_QUEUES];
	struct virtio_mmio mmio;
	struct ring rings[TOY_QUEUES];
	struct {
		unsigned notified[TOY_QUEUES];
		unsigned resets;
		uint8_t config[12]; /* written by the guest */
	} seen;
};

extern struct toy toy;
extern const struct virtio_class toy_class;

/* Makes v a core of that class with these TOY_QUEUES queues, for virtio_mmio_create(). */
void toy_equip(struct virtio *v, struct virtqueue *queues);

/* Of every test: a new machine with the device in slot 3. */
int toy_setup(void **state);
int toy_teardown(void **state);

/* Where a register is, and 32-bit access to it. */
uint64_t toy_address(uint32_t offset);
uint32_t toy_get(uint32_t offset);
void toy_put(uint32_t offset, uint32_t value);

/* Writes the driver's features. */
void toy_set_features(uint64_t features);

/* Resets and goes up to FEATURES_OK; whether the device accepts them. */
bool toy_negotiate(uint64_t features);

/* Makes queue i ready. */
void toy_setup_queue(unsigned i);

/* All of it, to DRIVER_OK, with VERSION_1 and these features; nothing is counted so far. */
void toy_bring_up(uint64_t features);

/* Offers one buffer in queue i, without a kick. */
void toy_offer(unsigned i);

#endif
