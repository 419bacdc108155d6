/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues over time: indexes that wrap, notification in both directions,
 * and going on after a restore.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/devices/virtio/virtqueue_bed.h"

/* Both indexes run past 2^16 several times; used entries come back in order. */
static void test_wrap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BED_SIZE; i++)
		ring_desc(&bed.ring, i, BED_BUFFER + i, 1, RING_WRITE, 0);
	for (unsigned n = 0; n < 150000; n++) {
		bool interrupt = false;
		uint32_t id, len;

		ring_offer(&bed.ring, (uint16_t)(n % BED_SIZE));
		assert_true(virtqueue_pop(&bed.queue, &bed.chain));
		assert_int_equal(bed.chain.head, n % BED_SIZE);
		virtqueue_push(&bed.queue, &bed.chain, n);
		assert_true(virtqueue_publish(&bed.queue, &interrupt));
		assert_true(ring_take(&bed.ring, &id, &len));
		assert_int_equal(id, n % BED_SIZE);
		assert_int_equal(len, n);
	}
}

/* Pops and publishes n chains; whether the guest is interrupted for them. */
static bool run_batch(unsigned n)
{
	bool interrupt = false;

	ring_desc(&bed.ring, 0, BED_BUFFER, 1, RING_WRITE, 0);
	for (unsigned i = 0; i < n; i++) {
		ring_offer(&bed.ring, 0);
		assert_true(virtqueue_pop(&bed.queue, &bed.chain));
		virtqueue_push(&bed.queue, &bed.chain, 1);
	}
	assert_true(virtqueue_publish(&bed.queue, &interrupt));
	return interrupt;
}

static void test_interrupt_flag(void **state)
{
	(void)state;
	assert_true(run_batch(1));
	ring_set_avail_flags(&bed.ring, 1);
	assert_false(run_batch(3));
}

static void test_interrupt_event(void **state)
{
	(void)state;
	bed.queue.event_idx = true;
	ring_set_avail_flags(&bed.ring, 1); /* means nothing now */
	ring_set_used_event(&bed.ring, 0);
	assert_true(run_batch(1)); /* 0 -> 1 passes 0 */
	ring_set_used_event(&bed.ring, 3);
	assert_false(run_batch(2)); /* 1 -> 3 */
	assert_true(run_batch(1));  /* 3 -> 4 passes 3 */
	assert_false(run_batch(4)); /* 4 -> 8: the guest has not asked again */
	ring_set_used_event(&bed.ring, 10);
	assert_true(run_batch(8)); /* 8 -> 16 passes 10 */

	/* The same across the wrap of the index. */
	bed.queue.state.used_next = bed.queue.published = 0xfffe;
	ring_set_used_event(&bed.ring, 1);
	assert_false(run_batch(3)); /* fffe -> 1 */
	assert_true(run_batch(1));
}

static void test_kick_flag(void **state)
{
	(void)state;
	virtqueue_disarm(&bed.queue);
	assert_int_equal(ring_used_flags(&bed.ring), 1);
	assert_false(virtqueue_arm(&bed.queue));
	assert_int_equal(ring_used_flags(&bed.ring), 0);
	ring_desc(&bed.ring, 0, BED_BUFFER, 1, 0, 0);
	ring_offer(&bed.ring, 0);
	assert_true(virtqueue_arm(&bed.queue));
}

static void test_kick_event(void **state)
{
	(void)state;
	bed.queue.event_idx = true;
	run_batch(5);
	assert_false(virtqueue_arm(&bed.queue));
	assert_int_equal(ring_avail_event(&bed.ring), 5);
	virtqueue_disarm(&bed.queue);
	assert_int_equal(ring_used_flags(&bed.ring), 0);
	assert_int_equal(ring_avail_event(&bed.ring), 5);

	/* What is there already gets no kick: the answer says so. */
	ring_offer(&bed.ring, 0);
	assert_true(virtqueue_arm(&bed.queue));
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_false(virtqueue_arm(&bed.queue));
	assert_int_equal(ring_avail_event(&bed.ring), 6);
}

/* Saved, and enabled anew where it was. */
static void test_restore(void **state)
{
	struct virtqueue copy;

	(void)state;
	run_batch(5);
	ring_offer(&bed.ring, 0);
	virtqueue_init(&copy, &bed.memory);
	copy.state = bed.queue.state;
	assert_true(virtqueue_enable(&copy));
	bed.queue = copy;
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	virtqueue_push(&bed.queue, &bed.chain, 0);
	assert_true(virtqueue_publish(&bed.queue, &(bool){ false }));
	assert_int_equal(ring_used_idx(&bed.ring), 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_wrap),      TEST(test_interrupt_flag), TEST(test_interrupt_event),
		TEST(test_kick_flag), TEST(test_kick_event),     TEST(test_restore),
	};

	return cmocka_run_group_tests_name("virtqueue_notify", tests, NULL, NULL);
}
