/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues: well-formed chains, every way in which a ring can be wrong,
 * notification in both directions, and rings full of noise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtqueue.h"
#include "tests/unit/ring.h"

#define RAM    (64ull << 20)
#define RING   0x10000u
#define BUFFER 0x100000u
#define TABLE  0x80000u
#define SIZE   8

static struct memory memory;
static struct ring ring;
static struct virtqueue queue;
static struct virtqueue_chain chain;

static int setup(void **state)
{
	(void)state;
	if (memory_create(&memory, RAM))
		return -1;
	ring_init(&ring, &memory, RING, SIZE);
	virtqueue_init(&queue, &memory);
	ring_describe(&ring, &queue.state);
	queue.indirect = true;
	return virtqueue_enable(&queue) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(&memory);
	return 0;
}

static void assert_broken(void)
{
	assert_false(virtqueue_pop(&queue, &chain));
	assert_non_null(queue.broken);
	/* And it stays so. */
	assert_false(virtqueue_pop(&queue, &chain));
	assert_false(virtqueue_arm(&queue));
}

static void test_enable_checks(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{ 0, RING, RING + 0x1000, RING + 0x2000 },
		{ 3, RING, RING + 0x1000, RING + 0x2000 },
		{ 512, RING, RING + 0x1000, RING + 0x2000 },
		{ 8, RING + 8, RING + 0x1000, RING + 0x2000 },
		{ 8, RING, RING + 0x1001, RING + 0x2000 },
		{ 8, RING, RING + 0x1000, RING + 0x2002 },
		{ 8, RAM, RING + 0x1000, RING + 0x2000 },
		{ 8, RAM - 16, RING + 0x1000, RING + 0x2000 },
		{ 8, RING, RAM - 20, RING + 0x2000 },
		{ 8, RING, RING + 0x1000, RAM - 68 },
		{ 8, UINT64_MAX - 15, RING + 0x1000, RING + 0x2000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		queue.state = (struct virtqueue_state){
			.size = bad[i].size,
			.desc = bad[i].desc,
			.avail = bad[i].avail,
			.used = bad[i].used,
		};
		assert_false(virtqueue_enable(&queue));
		assert_int_equal(queue.state.ready, 0);
		assert_false(virtqueue_pop(&queue, &chain));
	}
}

static void test_chain(void **state)
{
	bool interrupt = false;
	uint32_t id, len;

	(void)state;
	assert_false(virtqueue_pop(&queue, &chain));
	ring_desc(&ring, 3, BUFFER, 10, RING_NEXT, 5);
	ring_desc(&ring, 5, BUFFER + 100, 20, RING_NEXT, 1);
	ring_desc(&ring, 1, BUFFER + 200, 30, RING_WRITE, 7);
	ring_offer(&ring, 3);
	assert_true(virtqueue_pop(&queue, &chain));
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.out_count, 2);
	assert_int_equal(chain.in_count, 1);
	assert_int_equal(chain.out_len, 30);
	assert_int_equal(chain.in_len, 30);
	assert_ptr_equal(chain.iov[1].iov_base, memory.base + BUFFER + 100);
	assert_false(virtqueue_pop(&queue, &chain));

	virtqueue_push(&queue, &chain, 17);
	assert_int_equal(ring_used_idx(&ring), 0);
	assert_true(virtqueue_publish(&queue, &interrupt));
	assert_true(interrupt);
	assert_true(ring_take(&ring, &id, &len));
	assert_int_equal(id, 3);
	assert_int_equal(len, 17);
	assert_false(virtqueue_publish(&queue, &interrupt));
}

static void test_unpop(void **state)
{
	(void)state;
	ring_desc(&ring, 2, BUFFER, 10, RING_WRITE, 0);
	ring_offer(&ring, 2);
	assert_true(virtqueue_pop(&queue, &chain));
	virtqueue_unpop(&queue);
	assert_true(virtqueue_pop(&queue, &chain));
	assert_int_equal(chain.head, 2);
}

static void test_read_write_straddle(void **state)
{
	struct iovec part[SIZE];
	char text[16] = "";

	(void)state;
	ring_desc(&ring, 0, BUFFER, 3, RING_NEXT, 1);
	ring_desc(&ring, 1, BUFFER + 64, 0, RING_NEXT, 2); /* an empty one is no buffer */
	ring_desc(&ring, 2, BUFFER + 128, 5, RING_NEXT, 3);
	ring_desc(&ring, 3, BUFFER + 256, 2, RING_NEXT | RING_WRITE, 4);
	ring_desc(&ring, 4, BUFFER + 320, 4, RING_WRITE, 0);
	memory_write(&memory, BUFFER, "abc", 3);
	memory_write(&memory, BUFFER + 128, "defgh", 5);
	ring_offer(&ring, 0);
	assert_true(virtqueue_pop(&queue, &chain));
	assert_int_equal(chain.out_count, 2);

	assert_true(virtqueue_read(&chain, 2, text, 4));
	assert_string_equal(text, "cdef");
	assert_false(virtqueue_read(&chain, 2, text, 7));
	assert_false(virtqueue_read(&chain, 9, text, 0));
	assert_true(virtqueue_write(&chain, 1, "XYZ", 3));
	assert_false(virtqueue_write(&chain, 4, "XYZ", 3));
	assert_memory_equal(memory.base + BUFFER + 257, "X", 1);
	assert_memory_equal(memory.base + BUFFER + 320, "YZ", 2);

	assert_int_equal(virtqueue_slice(chain.iov, chain.out_count, 1, 4, part), 2);
	assert_int_equal(part[0].iov_len, 2);
	assert_int_equal(part[1].iov_len, 2);
	assert_int_equal(virtqueue_slice(chain.iov, chain.out_count, 8, 4, part), 0);
	assert_int_equal(virtqueue_slice(chain.iov, chain.out_count, 3, 100, part), 1);
	assert_ptr_equal(part[0].iov_base, memory.base + BUFFER + 128);
}

static void test_loop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&ring, i, BUFFER, 1, RING_NEXT, (uint16_t)((i + 1) % SIZE));
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_self_loop_of_empty_buffers(void **state)
{
	(void)state;
	ring_desc(&ring, 0, BUFFER, 0, RING_NEXT, 0);
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_longest_chain_is_fine(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&ring, i, BUFFER, 1, i + 1 < SIZE ? RING_NEXT : 0, (uint16_t)(i + 1));
	ring_offer(&ring, 0);
	assert_true(virtqueue_pop(&queue, &chain));
	assert_int_equal(chain.out_count, SIZE);
}

static void test_next_out_of_range(void **state)
{
	(void)state;
	ring_desc(&ring, 0, BUFFER, 1, RING_NEXT, SIZE);
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_head_out_of_range(void **state)
{
	(void)state;
	ring_offer(&ring, SIZE);
	assert_broken();
}

static void test_avail_too_far_ahead(void **state)
{
	(void)state;
	ring_set_avail_idx(&ring, SIZE + 1);
	assert_broken();
}

static void test_avail_behind(void **state)
{
	(void)state;
	ring_set_avail_idx(&ring, UINT16_MAX);
	assert_broken();
}

static void test_bad_addresses(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ RAM, 1 },
		{ RAM - 1, 2 },
		{ BUFFER, UINT32_MAX },
		{ UINT64_MAX, 2 },
		{ UINT64_MAX - 0xfff, 4096 },
		{ 0xfee00000, 4 },
		{ 1ull << 63, 4096 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		queue.broken = NULL;
		queue.state.avail_next = ring.avail_idx;
		ring_desc(&ring, 0, bad[i].addr, bad[i].len, RING_WRITE, 0);
		ring_offer(&ring, 0);
		assert_broken();
	}
}

static void test_more_than_4_gib(void **state)
{
	struct ring large;

	(void)state;
	ring_init(&large, &memory, 0x40000, 256);
	ring_describe(&large, &queue.state);
	queue.state.avail_next = 0;
	assert_true(virtqueue_enable(&queue));
	for (unsigned i = 0; i < 256; i++)
		ring_desc(&large, i, 0, (uint32_t)RAM, i < 255 ? RING_NEXT : 0, (uint16_t)(i + 1));
	ring_offer(&large, 0);
	assert_broken();
}

static void test_readable_after_writable(void **state)
{
	(void)state;
	ring_desc(&ring, 0, BUFFER, 8, RING_WRITE | RING_NEXT, 1);
	ring_desc(&ring, 1, BUFFER, 8, 0, 0);
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_indirect(void **state)
{
	(void)state;
	ring_desc(&ring, 0, BUFFER, 8, RING_NEXT, 1);
	ring_desc(&ring, 1, TABLE + 1, 3 * 16, RING_INDIRECT, 0); /* needs no alignment */
	ring_desc_at(&ring, TABLE + 1, 0, BUFFER + 8, 8, RING_NEXT, 2);
	ring_desc_at(&ring, TABLE + 1, 2, BUFFER + 16, 8, RING_WRITE, 0);
	ring_offer(&ring, 0);
	assert_true(virtqueue_pop(&queue, &chain));
	assert_int_equal(chain.out_len, 16);
	assert_int_equal(chain.in_len, 8);
	assert_int_equal(chain.head, 0);
}

static void test_bad_indirect(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
	} bad[] = {
		{ TABLE, 0, RING_INDIRECT },
		{ TABLE, 17, RING_INDIRECT },
		{ TABLE, 32, RING_INDIRECT | RING_NEXT },
		{ RAM - 16, 32, RING_INDIRECT },
		{ UINT64_MAX - 15, 32, RING_INDIRECT },
		{ TABLE, 0xfffffff0u, RING_INDIRECT },
	};

	(void)state;
	ring_desc_at(&ring, TABLE, 0, BUFFER, 8, 0, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		queue.broken = NULL;
		queue.state.avail_next = ring.avail_idx;
		ring_desc(&ring, 0, bad[i].addr, bad[i].len, bad[i].flags, 1);
		ring_offer(&ring, 0);
		assert_broken();
	}
}

static void test_nested_indirect(void **state)
{
	(void)state;
	ring_desc(&ring, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_desc_at(&ring, TABLE, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_indirect_loop_and_range(void **state)
{
	(void)state;
	ring_desc(&ring, 0, TABLE, 32, RING_INDIRECT, 0);
	ring_desc_at(&ring, TABLE, 0, BUFFER, 8, RING_NEXT, 1);
	ring_desc_at(&ring, TABLE, 1, BUFFER, 8, RING_NEXT, 0);
	ring_offer(&ring, 0);
	assert_broken();

	queue.broken = NULL;
	queue.state.avail_next = ring.avail_idx;
	ring_desc_at(&ring, TABLE, 1, BUFFER, 8, RING_NEXT, 2);
	ring_offer(&ring, 0);
	assert_broken();
}

static void test_indirect_not_negotiated(void **state)
{
	(void)state;
	queue.indirect = false;
	ring_desc(&ring, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_desc_at(&ring, TABLE, 0, BUFFER, 8, 0, 0);
	ring_offer(&ring, 0);
	assert_broken();
}

/* Both indexes run past 2^16 several times; used entries come back in order. */
static void test_wrap(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&ring, i, BUFFER + i, 1, RING_WRITE, 0);
	for (unsigned n = 0; n < 150000; n++) {
		bool interrupt = false;
		uint32_t id, len;

		ring_offer(&ring, (uint16_t)(n % SIZE));
		assert_true(virtqueue_pop(&queue, &chain));
		assert_int_equal(chain.head, n % SIZE);
		virtqueue_push(&queue, &chain, n);
		assert_true(virtqueue_publish(&queue, &interrupt));
		assert_true(ring_take(&ring, &id, &len));
		assert_int_equal(id, n % SIZE);
		assert_int_equal(len, n);
	}
}

/* Pops and publishes n chains; whether the guest is interrupted for them. */
static bool run_batch(unsigned n)
{
	bool interrupt = false;

	ring_desc(&ring, 0, BUFFER, 1, RING_WRITE, 0);
	for (unsigned i = 0; i < n; i++) {
		ring_offer(&ring, 0);
		assert_true(virtqueue_pop(&queue, &chain));
		virtqueue_push(&queue, &chain, 1);
	}
	assert_true(virtqueue_publish(&queue, &interrupt));
	return interrupt;
}

static void test_interrupt_flag(void **state)
{
	(void)state;
	assert_true(run_batch(1));
	ring_set_avail_flags(&ring, 1);
	assert_false(run_batch(3));
}

static void test_interrupt_event(void **state)
{
	(void)state;
	queue.event_idx = true;
	ring_set_avail_flags(&ring, 1); /* means nothing now */
	ring_set_used_event(&ring, 0);
	assert_true(run_batch(1)); /* 0 -> 1 passes 0 */
	ring_set_used_event(&ring, 3);
	assert_false(run_batch(2)); /* 1 -> 3 */
	assert_true(run_batch(1));  /* 3 -> 4 passes 3 */
	assert_false(run_batch(4)); /* 4 -> 8: the guest has not asked again */
	ring_set_used_event(&ring, 10);
	assert_true(run_batch(8)); /* 8 -> 16 passes 10 */

	/* The same across the wrap of the index. */
	queue.state.used_next = queue.published = 0xfffe;
	ring_set_used_event(&ring, 1);
	assert_false(run_batch(3)); /* fffe -> 1 */
	assert_true(run_batch(1));
}

static void test_kick_flag(void **state)
{
	(void)state;
	virtqueue_disarm(&queue);
	assert_int_equal(ring_used_flags(&ring), 1);
	assert_false(virtqueue_arm(&queue));
	assert_int_equal(ring_used_flags(&ring), 0);
	ring_desc(&ring, 0, BUFFER, 1, 0, 0);
	ring_offer(&ring, 0);
	assert_true(virtqueue_arm(&queue));
}

static void test_kick_event(void **state)
{
	(void)state;
	queue.event_idx = true;
	run_batch(5);
	assert_false(virtqueue_arm(&queue));
	assert_int_equal(ring_avail_event(&ring), 5);
	virtqueue_disarm(&queue);
	assert_int_equal(ring_used_flags(&ring), 0);
	assert_int_equal(ring_avail_event(&ring), 5);

	/* What is there already gets no kick: the answer says so. */
	ring_offer(&ring, 0);
	assert_true(virtqueue_arm(&queue));
	assert_true(virtqueue_pop(&queue, &chain));
	assert_false(virtqueue_arm(&queue));
	assert_int_equal(ring_avail_event(&ring), 6);
}

/* Saved, and enabled anew where it was. */
static void test_restore(void **state)
{
	struct virtqueue copy;

	(void)state;
	run_batch(5);
	ring_offer(&ring, 0);
	virtqueue_init(&copy, &memory);
	copy.state = queue.state;
	assert_true(virtqueue_enable(&copy));
	queue = copy;
	assert_true(virtqueue_pop(&queue, &chain));
	virtqueue_push(&queue, &chain, 0);
	assert_true(virtqueue_publish(&queue, &(bool){ false }));
	assert_int_equal(ring_used_idx(&ring), 6);
}

/* Noise in every field, biased to values that get past the first check. */
static void test_noise(void **state)
{
	unsigned popped = 0, broken = 0;

	(void)state;
	srandom(20261123);
	for (unsigned n = 0; n < 30000; n++) {
		queue.broken = NULL;
		queue.state.avail_next = (uint16_t)random();
		for (unsigned i = 0; i < 2 * SIZE; i++) {
			uint64_t addr = random() % 8 ? (uint64_t)(random() % (long)RAM)
						     : (uint64_t)random() << 33;
			uint32_t len = random() % 8 ? (uint32_t)(random() % 4) * 16
						    : (uint32_t)random() * 2u;

			ring_desc_at(&ring, i < SIZE ? RING : TABLE, i % SIZE,
				     random() % 4 ? addr : TABLE, len, (uint16_t)(random() % 8),
				     (uint16_t)(random() % (SIZE + 1)));
		}
		ring_set_avail_idx(&ring, (uint16_t)(queue.state.avail_next + random() % 4));
		ring_offer(&ring, (uint16_t)(random() % SIZE));
		while (virtqueue_pop(&queue, &chain)) {
			uint64_t sum = 0;

			for (unsigned i = 0; i < chain.out_count + chain.in_count; i++) {
				uint8_t *at = chain.iov[i].iov_base;

				assert_true(at >= memory.base);
				assert_true(at + chain.iov[i].iov_len <= memory.base + RAM);
				sum += chain.iov[i].iov_len;
			}
			assert_true(sum == (uint64_t)chain.out_len + chain.in_len);
			virtqueue_push(&queue, &chain, 0);
			popped++;
		}
		virtqueue_publish(&queue, &(bool){ false });
		broken += queue.broken != NULL;
	}
	/* The noise was neither all good nor all bad. */
	assert_true(popped > 1000);
	assert_true(broken > 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_enable_checks),
		TEST(test_chain),
		TEST(test_unpop),
		TEST(test_read_write_straddle),
		TEST(test_loop),
		TEST(test_self_loop_of_empty_buffers),
		TEST(test_longest_chain_is_fine),
		TEST(test_next_out_of_range),
		TEST(test_head_out_of_range),
		TEST(test_avail_too_far_ahead),
		TEST(test_avail_behind),
		TEST(test_bad_addresses),
		TEST(test_more_than_4_gib),
		TEST(test_readable_after_writable),
		TEST(test_indirect),
		TEST(test_bad_indirect),
		TEST(test_nested_indirect),
		TEST(test_indirect_loop_and_range),
		TEST(test_indirect_not_negotiated),
		TEST(test_wrap),
		TEST(test_interrupt_flag),
		TEST(test_interrupt_event),
		TEST(test_kick_flag),
		TEST(test_kick_event),
		TEST(test_restore),
		TEST(test_noise),
	};

	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
