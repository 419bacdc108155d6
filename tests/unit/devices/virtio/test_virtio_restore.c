/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving the virtio core and its transport, and what is refused when they are loaded.
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/devices/virtio/virtio_toy.h"

/* What of the machine is saved, as a device with such a core lists it. */
struct saved {
	struct virtio_mmio mmio;
	struct virtio virtio;
	struct virtqueue queues[TOY_QUEUES];
};

/* clang-format off */
static const struct field saved_fields[] = {
	VIRTIO_MMIO_FIELDS(struct saved, mmio),
	VIRTIO_FIELDS(struct saved, virtio),
	VIRTQUEUE_FIELDS(struct saved, queues[0]),
	VIRTQUEUE_FIELDS(struct saved, queues[1]),
	FIELD_END
};
/* clang-format on */

static struct saved saved_toy(void)
{
	struct saved image = { .mmio = toy.mmio, .virtio = toy.virtio };

	memcpy(image.queues, toy.queues, sizeof(image.queues));
	return image;
}

/* Loads what `saved` holds into a core that was never touched. */
static int load(struct saved *image, const struct blob *saved)
{
	struct blob in = blob_reader(saved->data, saved->len);

	memset(image, 0, sizeof(*image));
	toy_equip(&image->virtio, image->queues);
	image->virtio.vm = &toy.vm;
	for (unsigned i = 0; i < TOY_QUEUES; i++)
		virtqueue_init(&image->queues[i], &toy.vm.memory);
	fields_load(saved_fields, 1, image, &in);
	assert_false(in.failed);
	return virtio_restored(&image->virtio);
}

static void test_save_and_load(void **state)
{
	static struct saved image, copy;
	struct blob first = { 0 }, second = { 0 };

	(void)state;
	toy_bring_up(VIRTIO_F_EVENT_IDX);
	toy_offer(0);
	toy_put(0x050, 0);
	toy_put(0x014, 7);
	image = saved_toy();
	fields_save(saved_fields, &image, &first);
	assert_int_equal(load(&copy, &first), 0);
	fields_save(saved_fields, &copy, &second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);

	/* Left in the ring at the moment of saving, never kicked: found at the start. */
	toy_offer(0);
	virtio_start(&copy.virtio);
	assert_int_equal(ring_used_idx(&toy.rings[0]), 2);
	assert_int_equal(ring_avail_event(&toy.rings[0]), 2);
	blob_fini(&first);
	blob_fini(&second);
}

static void test_load_checks(void **state)
{
	static struct saved image, copy;

	(void)state;
	toy_bring_up(0);
	for (unsigned i = 0; i < 9; i++) {
		struct blob saved = { 0 };

		image = saved_toy();
		switch (i) {
		case 0:
			image.virtio.state.status |= 16;
			break;
		case 1:
			image.virtio.state.isr = 4;
			break;
		case 2:
			image.virtio.state.driver_features = 0;
			break;
		case 3:
			image.virtio.state.driver_features |= 1ull << 60;
			break;
		case 4:
			image.virtio.state.status = 7; /* DRIVER_OK alone */
			break;
		case 5:
			image.queues[0].state.size = 5;
			break;
		case 6:
			image.queues[1].state.used = TOY_RAM;
			break;
		case 7:
			image.queues[1].state.ready = 2;
			break;
		default:
			break;
		}
		fields_save(saved_fields, &image, &saved);
		assert_int_equal(load(&copy, &saved), i < 8 ? -22 : 0);
		blob_fini(&saved);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, toy_setup, toy_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_save_and_load),
		TEST(test_load_checks),
	};

	return cmocka_run_group_tests_name("virtio_restore", tests, NULL, NULL);
}
