/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/devices/virtio/virtio_toy.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "arch/layout.h"
#include "tests/unit/arch/vm_calls.h"
#include "tests/unit/devices/virtio/virtio_toy.h"

struct toy toy;

/* --- The device: returns every buffer as it is --- */

static void toy_notify(struct virtio *v, unsigned queue)
{
	struct virtqueue_chain chain;

	toy.seen.notified[queue]++;
	do {
		while (virtqueue_pop(&v->queues[queue], &chain))
			virtqueue_push(&v->queues[queue], &chain, 0);
	} while (virtqueue_arm(&v->queues[queue]));
}

static void toy_reset(struct virtio *v)
{
	(void)v;
	toy.seen.resets++;
}

static void toy_config_read(struct virtio *v, uint64_t offset, void *data, unsigned len)
{
	static const uint8_t config[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

	(void)v;
	for (unsigned i = 0; i < len && offset + i < sizeof(config); i++)
		((uint8_t *)data)[i] = config[offset + i];
}

static void toy_config_write(struct virtio *v, uint64_t offset, const void *data, unsigned len)
{
	(void)v;
	for (unsigned i = 0; i < len && offset + i < sizeof(toy.seen.config); i++)
		toy.seen.config[offset + i] = ((const uint8_t *)data)[i];
}

const struct virtio_class toy_class = {
	.name = "toy",
	.id = 42,
	.notify = toy_notify,
	.reset = toy_reset,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
};

void toy_equip(struct virtio *v, struct virtqueue *queues)
{
	v->class = &toy_class;
	v->features = TOY_OWN_BIT;
	v->queues = queues;
	v->queue_count = TOY_QUEUES;
}

int toy_setup(void **state)
{
	(void)state;
	memset(&toy.seen, 0, sizeof(toy.seen));
	memset(&vm_calls, 0, sizeof(vm_calls));
	memset(&toy.vm, 0, sizeof(toy.vm));
	memset(&toy.virtio, 0, sizeof(toy.virtio));
	memset(&toy.mmio, 0, sizeof(toy.mmio));
	if (memory_create(&toy.vm.memory, TOY_RAM))
		return -1;
	toy.vm.virtio_slots = 3;
	toy_equip(&toy.virtio, toy.queues);
	if (virtio_mmio_create(&toy.mmio, &toy.virtio, &toy.vm))
		return -1;
	virtio_start(&toy.virtio);
	return 0;
}

int toy_teardown(void **state)
{
	(void)state;
	virtio_fini(&toy.virtio);
	memory_destroy(&toy.vm.memory);
	return 0;
}

/* --- The driver --- */

uint64_t toy_address(uint32_t offset)
{
	return LAYOUT_VIRTIO_MMIO + 3 * LAYOUT_VIRTIO_STRIDE + offset;
}

uint32_t toy_get(uint32_t offset)
{
	uint32_t value;

	assert_true(bus_io(&toy.vm.mmio, toy_address(offset), &value, sizeof(value), false));
	return value;
}

void toy_put(uint32_t offset, uint32_t value)
{
	assert_true(bus_io(&toy.vm.mmio, toy_address(offset), &value, sizeof(value), true));
}

void toy_set_features(uint64_t features)
{
	toy_put(0x024, 0);
	toy_put(0x020, (uint32_t)features);
	toy_put(0x024, 1);
	toy_put(0x020, (uint32_t)(features >> 32));
}

bool toy_negotiate(uint64_t features)
{
	toy_put(0x070, 0);
	toy_put(0x070, 1);
	toy_put(0x070, 3);
	toy_set_features(features);
	toy_put(0x070, 11);
	return (toy_get(0x070) & VIRTIO_STATUS_FEATURES_OK) != 0;
}

void toy_setup_queue(unsigned i)
{
	ring_init(&toy.rings[i], &toy.vm.memory, TOY_RING(i), TOY_SIZE);
	toy_put(0x030, i);
	toy_put(0x038, TOY_SIZE);
	toy_put(0x080, (uint32_t)toy.rings[i].desc);
	toy_put(0x084, 0);
	toy_put(0x090, (uint32_t)toy.rings[i].avail);
	toy_put(0x094, 0);
	toy_put(0x0a0, (uint32_t)toy.rings[i].used);
	toy_put(0x0a4, 0);
	toy_put(0x044, 1);
}

void toy_bring_up(uint64_t features)
{
	assert_true(toy_negotiate(features | VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < TOY_QUEUES; i++) {
		toy_setup_queue(i);
		assert_int_equal(toy_get(0x044), 1);
	}
	toy_put(0x070, 15);
	assert_int_equal(toy_get(0x070), 15);
	memset(toy.seen.notified, 0, sizeof(toy.seen.notified));
	vm_calls.wakes = 0;
}

void toy_offer(unsigned i)
{
	ring_desc(&toy.rings[i], 0, TOY_BUFFER, 64, RING_WRITE, 0);
	ring_offer(&toy.rings[i], 0);
}
