/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the vsock device and starts it (virtio 1.2, 3.1.1 and 4.2.2). It runs in
 * ring 0: where KVM emulates that, an access costs 6 us, and 28 us from ring 3. What a reset device
 * has as zero is not written.
 */
#include "arch/layout.h"
#include "guest/builtin/vsock.h"

enum mmio_register {
	MMIO_MAGIC = 0x00,
	MMIO_VERSION = 0x04,
	MMIO_DEVICE = 0x08,
	MMIO_FEATURES = 0x10,
	MMIO_FEATURES_SELECT = 0x14,
	MMIO_DRIVER_FEATURES = 0x20,
	MMIO_DRIVER_FEATURES_SELECT = 0x24,
	MMIO_QUEUE_SELECT = 0x30,
	MMIO_QUEUE_MAX = 0x34,
	MMIO_QUEUE_SIZE = 0x38,
	MMIO_QUEUE_READY = 0x44,
	MMIO_STATUS = 0x70,
	MMIO_QUEUE_DESC = 0x80,
	MMIO_QUEUE_AVAIL = 0x90,
	MMIO_QUEUE_USED = 0xa0,
	MMIO_CONFIG = 0x100, /* the guest's CID */
};

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER      2u
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u

#define DEVICE_VSOCK       19u
#define FEATURE_VERSION_1  1u /* in the second word */

static uint32_t mmio_read(uint64_t base, enum mmio_register reg)
{
	return *(volatile uint32_t *)(base + reg);
}

static void mmio_write(uint64_t base, enum mmio_register reg, uint32_t value)
{
	*(volatile uint32_t *)(base + reg) = value;
}

static uint64_t virtio_find(void)
{
	for (uint32_t slot = 0; slot < LAYOUT_VIRTIO_SLOTS; slot++) {
		uint64_t base = LAYOUT_VIRTIO_MMIO + slot * LAYOUT_VIRTIO_STRIDE;

		if (mmio_read(base, MMIO_DEVICE) == DEVICE_VSOCK &&
		    mmio_read(base, MMIO_MAGIC) == 0x74726976 && mmio_read(base, MMIO_VERSION) == 2)
			return base;
	}
	return 0;
}

static bool virtio_features(uint64_t base)
{
	uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

	mmio_write(base, MMIO_STATUS, 0);
	mmio_write(base, MMIO_STATUS, status);
	mmio_write(base, MMIO_FEATURES_SELECT, 1);
	if ((mmio_read(base, MMIO_FEATURES) & FEATURE_VERSION_1) == 0)
		return false;
	mmio_write(base, MMIO_DRIVER_FEATURES_SELECT, 1);
	mmio_write(base, MMIO_DRIVER_FEATURES, FEATURE_VERSION_1);
	mmio_write(base, MMIO_STATUS, status | STATUS_FEATURES_OK);
	return (mmio_read(base, MMIO_STATUS) & STATUS_FEATURES_OK) != 0;
}

static bool virtio_queue(uint64_t base, uint32_t index, struct queue *q)
{
	mmio_write(base, MMIO_QUEUE_SELECT, index);
	if (mmio_read(base, MMIO_QUEUE_MAX) < QUEUE_SIZE)
		return false;
	q->avail.flags = 1; /* no interrupts: the rings are polled */
	mmio_write(base, MMIO_QUEUE_SIZE, QUEUE_SIZE);
	mmio_write(base, MMIO_QUEUE_DESC, (uint32_t)physical(q->desc));
	mmio_write(base, MMIO_QUEUE_AVAIL, (uint32_t)physical(&q->avail));
	mmio_write(base, MMIO_QUEUE_USED, (uint32_t)physical(&q->used));
	mmio_write(base, MMIO_QUEUE_READY, 1);
	return true;
}

void vsock_start(struct vsock *v)
{
	uint64_t base = virtio_find();

	if (base == 0 || !virtio_features(base) || !virtio_queue(base, 0, &v->rx) ||
	    !virtio_queue(base, 1, &v->tx))
		return;
	v->cid = mmio_read(base, MMIO_CONFIG);
	mmio_write(base, MMIO_STATUS,
		   STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}
