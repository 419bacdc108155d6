/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues: well-formed chains, every way in which a ring can be wrong, and
 * rings full of noise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/devices/virtio/virtqueue_bed.h"

static void test_enable_checks(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{ 0, BED_RING, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 3, BED_RING, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 512, BED_RING, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 8, BED_RING + 8, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 8, BED_RING, BED_RING + 0x1001, BED_RING + 0x2000 },
		{ 8, BED_RING, BED_RING + 0x1000, BED_RING + 0x2002 },
		{ 8, BED_RAM, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 8, BED_RAM - 16, BED_RING + 0x1000, BED_RING + 0x2000 },
		{ 8, BED_RING, BED_RAM - 20, BED_RING + 0x2000 },
		{ 8, BED_RING, BED_RING + 0x1000, BED_RAM - 68 },
		{ 8, UINT64_MAX - 15, BED_RING + 0x1000, BED_RING + 0x2000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bed.queue.state = (struct virtqueue_state){
			.size = bad[i].size,
			.desc = bad[i].desc,
			.avail = bad[i].avail,
			.used = bad[i].used,
		};
		assert_false(virtqueue_enable(&bed.queue));
		assert_int_equal(bed.queue.state.ready, 0);
		assert_false(virtqueue_pop(&bed.queue, &bed.chain));
	}
}

static void test_chain(void **state)
{
	bool interrupt = false;
	uint32_t id, len;

	(void)state;
	assert_false(virtqueue_pop(&bed.queue, &bed.chain));
	ring_desc(&bed.ring, 3, BED_BUFFER, 10, RING_NEXT, 5);
	ring_desc(&bed.ring, 5, BED_BUFFER + 100, 20, RING_NEXT, 1);
	ring_desc(&bed.ring, 1, BED_BUFFER + 200, 30, RING_WRITE, 7);
	ring_offer(&bed.ring, 3);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_int_equal(bed.chain.head, 3);
	assert_int_equal(bed.chain.out_count, 2);
	assert_int_equal(bed.chain.in_count, 1);
	assert_int_equal(bed.chain.out_len, 30);
	assert_int_equal(bed.chain.in_len, 30);
	assert_ptr_equal(bed.chain.iov[1].iov_base, bed.memory.base + BED_BUFFER + 100);
	assert_false(virtqueue_pop(&bed.queue, &bed.chain));

	virtqueue_push(&bed.queue, &bed.chain, 17);
	assert_int_equal(ring_used_idx(&bed.ring), 0);
	assert_true(virtqueue_publish(&bed.queue, &interrupt));
	assert_true(interrupt);
	assert_true(ring_take(&bed.ring, &id, &len));
	assert_int_equal(id, 3);
	assert_int_equal(len, 17);
	assert_false(virtqueue_publish(&bed.queue, &interrupt));
}

static void test_unpop(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 2, BED_BUFFER, 10, RING_WRITE, 0);
	ring_offer(&bed.ring, 2);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	virtqueue_unpop(&bed.queue);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_int_equal(bed.chain.head, 2);
}

static void test_read_write_straddle(void **state)
{
	struct iovec part[BED_SIZE];
	char text[16] = "";

	(void)state;
	ring_desc(&bed.ring, 0, BED_BUFFER, 3, RING_NEXT, 1);
	ring_desc(&bed.ring, 1, BED_BUFFER + 64, 0, RING_NEXT, 2); /* an empty one is no buffer */
	ring_desc(&bed.ring, 2, BED_BUFFER + 128, 5, RING_NEXT, 3);
	ring_desc(&bed.ring, 3, BED_BUFFER + 256, 2, RING_NEXT | RING_WRITE, 4);
	ring_desc(&bed.ring, 4, BED_BUFFER + 320, 4, RING_WRITE, 0);
	memory_write(&bed.memory, BED_BUFFER, "abc", 3);
	memory_write(&bed.memory, BED_BUFFER + 128, "defgh", 5);
	ring_offer(&bed.ring, 0);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_int_equal(bed.chain.out_count, 2);

	assert_true(virtqueue_read(&bed.chain, 2, text, 4));
	assert_string_equal(text, "cdef");
	assert_false(virtqueue_read(&bed.chain, 2, text, 7));
	assert_false(virtqueue_read(&bed.chain, 9, text, 0));
	assert_true(virtqueue_write(&bed.chain, 1, "XYZ", 3));
	assert_false(virtqueue_write(&bed.chain, 4, "XYZ", 3));
	assert_memory_equal(bed.memory.base + BED_BUFFER + 257, "X", 1);
	assert_memory_equal(bed.memory.base + BED_BUFFER + 320, "YZ", 2);

	assert_int_equal(virtqueue_slice(bed.chain.iov, bed.chain.out_count, 1, 4, part), 2);
	assert_int_equal(part[0].iov_len, 2);
	assert_int_equal(part[1].iov_len, 2);
	assert_int_equal(virtqueue_slice(bed.chain.iov, bed.chain.out_count, 8, 4, part), 0);
	assert_int_equal(virtqueue_slice(bed.chain.iov, bed.chain.out_count, 3, 100, part), 1);
	assert_ptr_equal(part[0].iov_base, bed.memory.base + BED_BUFFER + 128);
}

static void test_loop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BED_SIZE; i++)
		ring_desc(&bed.ring, i, BED_BUFFER, 1, RING_NEXT, (uint16_t)((i + 1) % BED_SIZE));
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_self_loop_of_empty_buffers(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_BUFFER, 0, RING_NEXT, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_longest_chain_is_fine(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BED_SIZE; i++)
		ring_desc(&bed.ring, i, BED_BUFFER, 1, i + 1 < BED_SIZE ? RING_NEXT : 0,
			  (uint16_t)(i + 1));
	ring_offer(&bed.ring, 0);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_int_equal(bed.chain.out_count, BED_SIZE);
}

static void test_next_out_of_range(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_BUFFER, 1, RING_NEXT, BED_SIZE);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_head_out_of_range(void **state)
{
	(void)state;
	ring_offer(&bed.ring, BED_SIZE);
	bed_assert_broken();
}

static void test_avail_too_far_ahead(void **state)
{
	(void)state;
	ring_set_avail_idx(&bed.ring, BED_SIZE + 1);
	bed_assert_broken();
}

static void test_avail_behind(void **state)
{
	(void)state;
	ring_set_avail_idx(&bed.ring, UINT16_MAX);
	bed_assert_broken();
}

static void test_bad_addresses(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ BED_RAM, 1 },       { BED_RAM - 1, 2 },           { BED_BUFFER, UINT32_MAX },
		{ UINT64_MAX, 2 },    { UINT64_MAX - 0xfff, 4096 }, { 0xfee00000, 4 },
		{ 1ull << 63, 4096 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bed.queue.broken = NULL;
		bed.queue.state.avail_next = bed.ring.avail_idx;
		ring_desc(&bed.ring, 0, bad[i].addr, bad[i].len, RING_WRITE, 0);
		ring_offer(&bed.ring, 0);
		bed_assert_broken();
	}
}

static void test_more_than_4_gib(void **state)
{
	struct ring large;

	(void)state;
	ring_init(&large, &bed.memory, 0x40000, 256);
	ring_describe(&large, &bed.queue.state);
	bed.queue.state.avail_next = 0;
	assert_true(virtqueue_enable(&bed.queue));
	for (unsigned i = 0; i < 256; i++)
		ring_desc(&large, i, 0, (uint32_t)BED_RAM, i < 255 ? RING_NEXT : 0,
			  (uint16_t)(i + 1));
	ring_offer(&large, 0);
	bed_assert_broken();
}

static void test_readable_after_writable(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_BUFFER, 8, RING_WRITE | RING_NEXT, 1);
	ring_desc(&bed.ring, 1, BED_BUFFER, 8, 0, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_indirect(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_BUFFER, 8, RING_NEXT, 1);
	ring_desc(&bed.ring, 1, BED_TABLE + 1, 3 * 16, RING_INDIRECT, 0); /* needs no alignment */
	ring_desc_at(&bed.ring, BED_TABLE + 1, 0, BED_BUFFER + 8, 8, RING_NEXT, 2);
	ring_desc_at(&bed.ring, BED_TABLE + 1, 2, BED_BUFFER + 16, 8, RING_WRITE, 0);
	ring_offer(&bed.ring, 0);
	assert_true(virtqueue_pop(&bed.queue, &bed.chain));
	assert_int_equal(bed.chain.out_len, 16);
	assert_int_equal(bed.chain.in_len, 8);
	assert_int_equal(bed.chain.head, 0);
}

static void test_bad_indirect(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
	} bad[] = {
		{ BED_TABLE, 0, RING_INDIRECT },
		{ BED_TABLE, 17, RING_INDIRECT },
		{ BED_TABLE, 32, RING_INDIRECT | RING_NEXT },
		{ BED_RAM - 16, 32, RING_INDIRECT },
		{ UINT64_MAX - 15, 32, RING_INDIRECT },
		{ BED_TABLE, 0xfffffff0u, RING_INDIRECT },
	};

	(void)state;
	ring_desc_at(&bed.ring, BED_TABLE, 0, BED_BUFFER, 8, 0, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bed.queue.broken = NULL;
		bed.queue.state.avail_next = bed.ring.avail_idx;
		ring_desc(&bed.ring, 0, bad[i].addr, bad[i].len, bad[i].flags, 1);
		ring_offer(&bed.ring, 0);
		bed_assert_broken();
	}
}

static void test_nested_indirect(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_TABLE, 16, RING_INDIRECT, 0);
	ring_desc_at(&bed.ring, BED_TABLE, 0, BED_TABLE, 16, RING_INDIRECT, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();

	/* The main table, whose descriptor then leads to itself. */
	bed.queue.broken = NULL;
	bed.queue.state.avail_next = bed.ring.avail_idx;
	ring_desc(&bed.ring, 0, bed.ring.desc, BED_SIZE * 16, RING_INDIRECT, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_indirect_loop_and_range(void **state)
{
	(void)state;
	ring_desc(&bed.ring, 0, BED_TABLE, 32, RING_INDIRECT, 0);
	ring_desc_at(&bed.ring, BED_TABLE, 0, BED_BUFFER, 8, RING_NEXT, 1);
	ring_desc_at(&bed.ring, BED_TABLE, 1, BED_BUFFER, 8, RING_NEXT, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();

	bed.queue.broken = NULL;
	bed.queue.state.avail_next = bed.ring.avail_idx;
	ring_desc_at(&bed.ring, BED_TABLE, 1, BED_BUFFER, 8, RING_NEXT, 2);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

static void test_indirect_not_negotiated(void **state)
{
	(void)state;
	bed.queue.indirect = false;
	ring_desc(&bed.ring, 0, BED_TABLE, 16, RING_INDIRECT, 0);
	ring_desc_at(&bed.ring, BED_TABLE, 0, BED_BUFFER, 8, 0, 0);
	ring_offer(&bed.ring, 0);
	bed_assert_broken();
}

/* Noise in every field, biased to values that get past the first check. */
static void test_noise(void **state)
{
	unsigned popped = 0, broken = 0;

	(void)state;
	srandom(20261123);
	for (unsigned n = 0; n < 30000; n++) {
		bed.queue.broken = NULL;
		bed.queue.state.avail_next = (uint16_t)random();
		for (unsigned i = 0; i < 2 * BED_SIZE; i++) {
			uint64_t addr = random() % 8 ? (uint64_t)(random() % (long)BED_RAM)
						     : (uint64_t)random() << 33;
			uint32_t len = random() % 8 ? (uint32_t)(random() % 4) * 16
						    : (uint32_t)random() * 2u;

			ring_desc_at(&bed.ring, i < BED_SIZE ? BED_RING : BED_TABLE, i % BED_SIZE,
				     random() % 4 ? addr : BED_TABLE, len, (uint16_t)(random() % 8),
				     (uint16_t)(random() % (BED_SIZE + 1)));
		}
		ring_set_avail_idx(&bed.ring,
				   (uint16_t)(bed.queue.state.avail_next + random() % 4));
		ring_offer(&bed.ring, (uint16_t)(random() % BED_SIZE));
		while (virtqueue_pop(&bed.queue, &bed.chain)) {
			uint64_t sum = 0;

			for (unsigned i = 0; i < bed.chain.out_count + bed.chain.in_count; i++) {
				uint8_t *at = bed.chain.iov[i].iov_base;

				assert_true(at >= bed.memory.base);
				assert_true(at + bed.chain.iov[i].iov_len <=
					    bed.memory.base + BED_RAM);
				sum += bed.chain.iov[i].iov_len;
			}
			assert_true(sum == (uint64_t)bed.chain.out_len + bed.chain.in_len);
			virtqueue_push(&bed.queue, &bed.chain, 0);
			popped++;
		}
		virtqueue_publish(&bed.queue, &(bool){ false });
		broken += bed.queue.broken != NULL;
	}
	/* The noise was neither all good nor all bad. */
	assert_true(popped > 1000);
	assert_true(broken > 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

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
		TEST(test_noise),
	};

	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
