/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport and the virtio core, with a made-up device behind them that
 * counts what it is told.
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "arch/layout.h"
#include "devices/channel/channel.h"
#include "devices/device.h"
#include "tests/unit/arch/vm_calls.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/devices/virtio/virtio_toy.h"

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(toy_get(0x000), 0x74726976);
	assert_int_equal(toy_get(0x004), 2);
	assert_int_equal(toy_get(0x008), 42);
	assert_int_not_equal(toy_get(0x00c), 0);
	toy_put(0x014, 0);
	assert_int_equal(toy_get(0x010), (uint32_t)(TOY_OWN_BIT | 3u << 28));
	toy_put(0x014, 1);
	assert_int_equal(toy_get(0x010), 1);
	toy_put(0x014, 2);
	assert_int_equal(toy_get(0x010), 0);
	toy_put(0x030, 1);
	assert_int_equal(toy_get(0x034), VIRTQUEUE_SIZE_MAX);
	toy_put(0x030, TOY_QUEUES);
	assert_int_equal(toy_get(0x034), 0);
	assert_int_equal(toy_get(0x0b0), UINT32_MAX);
	assert_int_equal(toy_get(0x020), 0);
	assert_int_equal(toy.vm.virtio_slots, 4);
	assert_int_equal(vm_calls.wanted, LAYOUT_VIRTIO_GSI + 3);
}

/* A device that finds no slot leaves nothing behind, and takes nothing that was there before. */
static void test_slots_run_out(void **state)
{
	const struct device_host host = { .channel = channel_new() };
	unsigned before, refused = 0;

	(void)state;
	toy.vm.virtio_slots = LAYOUT_VIRTIO_SLOTS;
	loop_init(&toy.vm.loop);
	before = descriptors_open();
	for (unsigned i = 0; device_classes[i]; i++) {
		struct device_list list = { 0 };
		struct devices devices;
		int ret;

		assert_int_equal(device_list_add(&list, device_classes[i], NULL), 0);
		ret = devices_create(&devices, &toy.vm, &list, &host);
		if (ret == 0) {
			devices_destroy(&devices);
		} else {
			assert_int_equal(ret, -ENOSPC);
			assert_non_null(strstr(error_text(), device_classes[i]->name));
			refused++;
		}
		device_list_fini(&list);
		assert_int_equal(descriptors_open(), before);
		assert_int_equal(toy.vm.loop.count, 0);
	}
	assert_true(refused > 1);
	loop_fini(&toy.vm.loop);
	channel_free(host.channel);
}

static void test_register_width(void **state)
{
	uint8_t data[8];

	(void)state;
	for (unsigned len = 1; len <= 8; len *= 2) {
		if (len == 4)
			continue;
		memset(data, 0xee, sizeof(data));
		assert_true(bus_io(&toy.vm.mmio, toy_address(0), data, len, false));
		for (unsigned i = 0; i < len; i++)
			assert_int_equal(data[i], 0);
		memset(data, 1, sizeof(data));
		bus_io(&toy.vm.mmio, toy_address(TOY_REG_STATUS), data, len, true);
		assert_int_equal(toy_get(0x070), 0);
	}
	memset(data, 1, sizeof(data));
	bus_io(&toy.vm.mmio, toy_address(TOY_REG_STATUS + 2), data, 4, true);
	assert_int_equal(toy_get(0x070), 0);
}

static void test_config_width(void **state)
{
	uint64_t value = 0;
	uint8_t byte = 0;

	(void)state;
	bus_io(&toy.vm.mmio, toy_address(0x103), &byte, 1, false);
	assert_int_equal(byte, 4);
	bus_io(&toy.vm.mmio, toy_address(0x101), &value, 2, false);
	assert_int_equal(value, 0x0302);
	assert_int_equal(toy_get(0x104), 0x08070605);
	bus_io(&toy.vm.mmio, toy_address(0x104), &value, 8, false);
	assert_true(value == 0x0c0b0a0908070605ull);
	bus_io(&toy.vm.mmio, toy_address(0x108), &value, 8, false);
	assert_true(value == 0x0c0b0a09ull);
	bus_io(&toy.vm.mmio, toy_address(0x1f8), &value, 8, false);
	assert_true(value == 0);
	toy_put(0x100, 7); /* read-only here */
	assert_int_equal(toy_get(0x100), 0x04030201);
	assert_int_equal(toy.seen.config[0], 7);
	value = 0x2211;
	bus_io(&toy.vm.mmio, toy_address(0x109), &value, 2, true);
	assert_int_equal(toy.seen.config[9], 0x11);
	assert_int_equal(toy.seen.config[10], 0x22);
	assert_int_equal(toy.seen.config[11], 0);
}

/* A device with a queue and nothing else, and one with many queues. */
static void test_optional(void **state)
{
	const struct virtio_class plain = { .name = "plain", .id = 4, .notify = toy_class.notify };
	struct virtqueue queues[16] = { { .memory = NULL } };

	(void)state;
	toy.virtio.class = &plain;
	toy.virtio.features = 0;
	toy_put(0x100, 7);
	assert_int_equal(toy_get(0x100), 0);
	toy_put(0x070, 1);
	toy_put(0x070, 0);
	assert_int_equal(toy_get(0x070), 0);
	assert_int_equal(toy.seen.resets, 0);
	toy_put(0x014, 0);
	assert_int_equal(toy_get(0x010), 3u << 28);
	toy.virtio.queues = queues;
	toy.virtio.queue_count = 16;
	toy_put(0x030, 15);
	assert_int_equal(toy_get(0x034), VIRTQUEUE_SIZE_MAX);
	toy_put(0x030, 16);
	assert_int_equal(toy_get(0x034), 0);
}

static void test_features(void **state)
{
	(void)state;
	assert_false(toy_negotiate(0));
	assert_false(toy_negotiate(VIRTIO_F_EVENT_IDX));
	assert_false(toy_negotiate(VIRTIO_F_VERSION_1 | 1));
	assert_false(toy_negotiate(VIRTIO_F_VERSION_1 | 1ull << 33));
	toy_put(0x070, 15); /* without FEATURES_OK there is no DRIVER_OK */
	assert_int_equal(toy_get(0x070) & VIRTIO_STATUS_DRIVER_OK, 0);
	assert_true(toy_negotiate(VIRTIO_F_VERSION_1 | TOY_OWN_BIT));
	toy_set_features(0); /* too late */
	assert_true(toy.virtio.state.driver_features == (VIRTIO_F_VERSION_1 | TOY_OWN_BIT));
}

static void test_status_only_adds(void **state)
{
	(void)state;
	toy_put(0x070, 3);
	toy_put(0x070, 1);
	assert_int_equal(toy_get(0x070), 3);
	toy_put(0x070, 0xffffff00);
	assert_int_equal(toy_get(0x070), 3);
	toy_put(0x070, VIRTIO_STATUS_NEEDS_RESET); /* the device's own */
	assert_int_equal(toy_get(0x070), 3);
	toy_put(0x070, VIRTIO_STATUS_FAILED);
	assert_int_equal(toy_get(0x070), 3 | VIRTIO_STATUS_FAILED);
	toy.seen.resets = 0;
	toy_put(0x070, 0);
	assert_int_equal(toy_get(0x070), 0);
	assert_int_equal(toy.seen.resets, 1);
}

static void test_notify_and_interrupt(void **state)
{
	uint32_t id, len;

	(void)state;
	toy_bring_up(0);
	toy_offer(1);
	toy_put(0x050, 1);
	assert_int_equal(toy.seen.notified[0], 0);
	assert_int_equal(toy.seen.notified[1], 1);
	assert_true(ring_take(&toy.rings[1], &id, &len));
	assert_int_equal(toy_get(0x060), VIRTIO_ISR_QUEUE);
	assert_int_equal(vm_calls.edges, 1);
	assert_true(vm_calls.level);
	assert_int_equal(vm_calls.gsi, LAYOUT_VIRTIO_GSI + 3);
	assert_int_equal(vm_calls.wakes, 1);

	/* An unacknowledged interrupt does not swallow the next edge. */
	toy_offer(1);
	toy_put(0x050, 1);
	assert_int_equal(vm_calls.edges, 2);
	toy_put(0x064, VIRTIO_ISR_QUEUE);
	assert_int_equal(toy_get(0x060), 0);
	assert_false(vm_calls.level);

	/* Nothing published, nothing said. */
	toy_put(0x050, 1);
	toy_put(0x050, 7);
	assert_int_equal(vm_calls.edges, 2);
	assert_int_equal(vm_calls.wakes, 2);
}

static void test_wake_without_interrupt(void **state)
{
	(void)state;
	toy_bring_up(0);
	ring_set_avail_flags(&toy.rings[0], 1);
	toy_offer(0);
	toy_put(0x050, 0);
	assert_int_equal(vm_calls.edges, 0);
	assert_int_equal(toy_get(0x060), 0);
	assert_int_equal(vm_calls.wakes, 1);
}

static void test_poll_needs_no_kick(void **state)
{
	(void)state;
	toy_bring_up(VIRTIO_F_EVENT_IDX);
	toy_offer(0);
	toy_offer(1);
	toy.vm.polls[0].poll(toy.vm.polls[0].opaque);
	assert_int_equal(ring_used_idx(&toy.rings[0]), 1);
	assert_int_equal(ring_used_idx(&toy.rings[1]), 1);
	assert_int_equal(vm_calls.edges, 1); /* one for both */
	assert_int_equal(ring_avail_event(&toy.rings[1]), 1);
}

/* A device may ask to be called again, so that others get the lock: by the loop with more vCPUs. */
static void test_again(void **state)
{
	static struct virtio other;
	static struct virtqueue queues[TOY_QUEUES];
	static struct virtio_mmio front;

	(void)state;
	virtio_again(&toy.virtio);
	assert_true(toy.vm.poll_pending); /* by the only vCPU */
	toy.vm.poll_pending = false;
	loop_init(&toy.vm.loop);
	toy.vm.vcpu_count = 2;
	toy_equip(&other, queues);
	assert_int_equal(virtio_mmio_create(&front, &other, &toy.vm), 0);
	virtio_start(&other);
	other.state.status = VIRTIO_STATUS_DRIVER_OK;
	virtio_again(&other);
	assert_false(toy.vm.poll_pending);
	assert_int_equal(toy.seen.notified[0], 0);
	loop_stop(&toy.vm.loop); /* one round */
	assert_int_equal(loop_run(&toy.vm.loop, &toy.vm.lock), 0);
	assert_int_equal(toy.seen.notified[0], 1);
	assert_int_equal(toy.seen.notified[1], 1);
	virtio_fini(&other);
	assert_int_equal(toy.vm.loop.count, 0);
	loop_fini(&toy.vm.loop);
}

static void test_not_live(void **state)
{
	(void)state;
	assert_true(toy_negotiate(VIRTIO_F_VERSION_1));
	toy_setup_queue(0);
	toy_offer(0);
	toy_put(0x050, 0);
	assert_int_equal(toy.seen.notified[0], 0);
	toy_put(0x070, 15); /* what is there is found without a kick */
	assert_int_equal(ring_used_idx(&toy.rings[0]), 1);

	/* Paused: guest memory rests; going on finds the rest. */
	virtio_stop(&toy.virtio);
	toy_offer(0);
	toy_put(0x050, 0);
	assert_int_equal(ring_used_idx(&toy.rings[0]), 1);
	virtio_start(&toy.virtio);
	assert_int_equal(ring_used_idx(&toy.rings[0]), 2);
}

static void test_ready_queue_is_fixed(void **state)
{
	(void)state;
	toy_bring_up(0);
	toy_put(0x030, 0);
	toy_put(0x038, 4);
	toy_put(0x080, 0xdead0000);
	toy_put(0x0a4, 1);
	assert_int_equal(toy.virtio.queues[0].state.size, TOY_SIZE);
	assert_true(toy.virtio.queues[0].state.desc == toy.rings[0].desc);
	assert_true(toy.virtio.queues[0].state.used == toy.rings[0].used);
	toy_put(0x030, 99); /* no such queue */
	toy_put(0x038, 4);
	toy_put(0x044, 1);
	assert_int_equal(toy_get(0x044), 0);
}

static void test_bad_queue(void **state)
{
	(void)state;
	assert_true(toy_negotiate(VIRTIO_F_VERSION_1));
	toy_put(0x030, 0);
	toy_put(0x038, 70000); /* must not be cut to 16 bits */
	toy_put(0x044, 1);
	assert_int_equal(toy_get(0x044), 0);
	assert_true(toy_get(0x070) & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(vm_calls.edges, 0); /* before DRIVER_OK nobody listens */
	assert_true(toy_negotiate(VIRTIO_F_VERSION_1));
	assert_false(toy_get(0x070) & VIRTIO_STATUS_NEEDS_RESET);
}

static void test_broken_ring(void **state)
{
	uint32_t generation = toy_get(0x0fc);

	(void)state;
	toy_bring_up(0);
	ring_desc(&toy.rings[0], 0, TOY_RAM, 1, 0, 0);
	ring_offer(&toy.rings[0], 0);
	toy_put(0x050, 0);
	assert_int_equal(toy_get(0x070), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(toy_get(0x060), VIRTIO_ISR_CONFIG);
	assert_int_equal(toy_get(0x0fc), generation + 1);
	assert_int_equal(vm_calls.edges, 1);
	assert_int_equal(toy.virtio.notes.said, 1);

	/* It says so once, and does nothing more. */
	toy_offer(1);
	toy_put(0x050, 1);
	toy_put(0x050, 0);
	toy.vm.polls[0].poll(toy.vm.polls[0].opaque);
	assert_int_equal(toy.seen.notified[1], 0);
	assert_int_equal(vm_calls.edges, 1);
	assert_int_equal(toy.virtio.notes.said, 1);

	toy_bring_up(0);
	toy_offer(0);
	toy_put(0x050, 0);
	assert_int_equal(ring_used_idx(&toy.rings[0]), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_slots_run_out),
		TEST(test_register_width),
		TEST(test_config_width),
		TEST(test_optional),
		TEST(test_features),
		TEST(test_status_only_adds),
		TEST(test_notify_and_interrupt),
		TEST(test_wake_without_interrupt),
		TEST(test_poll_needs_no_kick),
		TEST(test_again),
		TEST(test_not_live),
		TEST(test_ready_queue_is_fixed),
		TEST(test_bad_queue),
		TEST(test_broken_ring),
	};

	return cmocka_run_group_tests_name("virtio_mmio", tests, NULL, NULL);
}
