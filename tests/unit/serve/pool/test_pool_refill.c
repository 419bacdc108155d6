/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool/refill.c: how many armed clones there are for which rate of requests, when shells are
 * made and ended, and that nothing goes on when nothing happens.
 *
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_bed.h"

#define SHELLS  300u
#define KEEP_MS 10000u /* CONTROL_KEEP_US */

static struct pool_bed *bed;
static struct function *f;
static struct request r[1000];
static unsigned next;

static int setup(void **state)
{
	(void)state;
	bed = pool_bed_open(SHELLS, 2);
	f = pool_bed_function(bed, "f", true);
	next = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pool_bed_close(bed);
	return 0;
}

/* One request, answered at once. Its tier. */
static enum invocation_tier serve(void)
{
	struct request *one = &r[next++ % 1000];

	one->number = next;
	assert_true(request_begin(bed, one, f, 3000 * MS));
	pool_bed_step(bed);
	fake_answer(fake_of(bed, one), OUTCOME_RESPONSE, "x");
	pool_bed_step(bed);
	request_expect(one, OUTCOME_RESPONSE, "x");
	return one->inv.tier;
}

/* Requests at a steady rate; how many were not served by an armed clone. */
static unsigned serve_rate(unsigned a_second, uint64_t ms)
{
	uint64_t end_us = own_time_us + ms * MS;
	unsigned fell = 0;

	while (own_time_us < end_us) {
		fell += serve() != TIER_ARMED;
		pool_bed_advance(bed, 1000000 / a_second);
	}
	return fell;
}

/* --- How many --- */

static void test_minimum(void **state)
{
	(void)state;
	f->config.pool_min = 5;
	pool_bed_advance(bed, 50 * MS);
	assert_int_equal(f->target, 2); /* as it was when it was made: no tick before a request */
	serve();
	pool_bed_advance(bed, 200 * MS);
	assert_int_equal(f->target, 5);
	assert_int_equal(f->armed_count, 5);
	assert_int_equal(bed->pool.shapes->ready_count, 2);
}

/* More for a higher rate, what comes in a fortieth of a second; not at once fewer for a lower one. */
static void test_follows_rate(void **state)
{
	unsigned high;

	(void)state;
	pool_bed_advance(bed, 50 * MS);
	serve_rate(30, 2000);
	assert_int_equal(f->target, 3);
	serve_rate(400, 2000);
	assert_in_range(f->rate, 390, 410);
	assert_in_range(f->target, 11, 13);
	assert_int_equal(serve_rate(400, 1000), 0);
	high = f->target;
	assert_int_equal(f->armed_count, high);
	pool_bed_advance(bed, (KEEP_MS - 1000) * MS);
	assert_int_equal(f->target, high);
	assert_int_equal(f->stats.retired, 0);
	pool_bed_advance(bed, 3000 * MS);
	assert_in_range(f->target, 2, 3);
	pool_bed_advance(bed, 20000 * MS);
	assert_int_equal(f->target, 2);
	assert_int_equal(f->armed_count, 2);
	assert_in_range(f->stats.retired, 9, 11);
	assert_true(f->rate == 0);
}

static void test_maximum(void **state)
{
	(void)state;
	f->config.pool_max = 10;
	serve_rate(1000, 2000);
	assert_int_equal(f->target, 10);
	pool_bed_advance(bed, 50 * MS);
	assert_int_equal(f->armed_count, 10);
}

/* A function that wants none has none, at any rate. */
static void test_no_pool(void **state)
{
	(void)state;
	f->config.pool_max = f->config.pool_min = f->target = 0;
	pool_bed_advance(bed, 50 * MS);
	serve_rate(100, 2000);
	assert_int_equal(f->target, 0);
	assert_int_equal(f->armed_count, 0);
	assert_int_equal(f->stats.tiers[TIER_BARE], 200);
	assert_int_equal(f->stats.builds, 0);
}

/* No more than so many a second are made for later, with as many at once after a pause. */
static void test_refill_rate(void **state)
{
	uint64_t before;

	(void)state;
	f->config.pool_refill = 10;
	f->config.pool_min = f->target = 30;
	pool_bed_advance(bed, 20 * MS);
	assert_int_equal(f->armed_count, 10);
	before = f->stats.builds;
	pool_bed_advance(bed, 1000 * MS);
	assert_in_range(f->stats.builds - before, 9, 11);
	pool_bed_advance(bed, 3000 * MS);
	assert_int_equal(f->armed_count, 30);
	/* What was not made use of is not saved up. */
	serve_rate(2, 5000);
	assert_true(f->refill.used >= 0);
	/* Requests that wait do not wait for that. */
	before = f->stats.builds;
	f->refill.used = 10;
	for (unsigned i = 0; i < 40; i++)
		serve();
	assert_in_range(f->stats.tiers[TIER_BUILT] + f->stats.tiers[TIER_BARE], 10, 11);
}

/* Nothing happens for no reason: no timer is set when there is nothing to be done. */
static void test_rest(void **state)
{
	(void)state;
	pool_bed_advance(bed, 100 * MS);
	assert_int_equal(bed->timers.count, 0);
	serve_rate(100, 1000);
	assert_true(bed->timers.count > 0);
	pool_bed_advance(bed, 60000 * MS);
	assert_int_equal(bed->timers.count, 0);
	assert_int_equal(f->armed_count, 2);
	assert_int_equal(bed->pool.alive, 4);
}

/* --- When --- */

/* What is made and ended waits until no request came or was answered for 2 ms. */
static void test_quiet(void **state)
{
	unsigned spawned;

	(void)state;
	pool_bed_advance(bed, 100 * MS);
	spawned = bed->spawned;
	serve();
	assert_int_equal(bed->pool.held_count, 1);
	pool_bed_advance(bed, POOL_QUIET_US - 1);
	assert_int_equal(bed->spawned, spawned);
	assert_int_equal(bed->pool.held_count, 1);
	pool_bed_advance(bed, 1);
	assert_int_equal(bed->spawned, spawned + 1);
	assert_int_equal(bed->pool.held_count, 0);
	assert_int_equal(f->armed_count, 2);
}

/* Requests a millisecond apart: it is never quiet, and every 50 ms a little is done anyway. */
static void test_overdue(void **state)
{
	unsigned spawned;

	(void)state;
	f->config.pool_min = f->target = 60;
	bed->pool.limits.bare = 0;
	pool_bed_advance(bed, 200 * MS);
	assert_int_equal(f->armed_count, 60);
	spawned = bed->spawned;
	for (unsigned i = 0; i < 49; i++) {
		assert_int_equal(serve(), TIER_ARMED);
		assert_int_equal(bed->spawned, spawned);
		pool_bed_advance(bed, 1 * MS);
	}
	serve();
	pool_bed_advance(bed, 1 * MS); /* it is not quiet */
	assert_int_equal(bed->spawned - spawned, POOL_REFILLS_MAX);
	assert_int_equal(bed->pool.held_count, POOL_HELD_MAX / 2);
	pool_bed_advance(bed, 1 * MS);
	assert_int_equal(f->armed_count, 60);
	assert_int_equal(bed->pool.held_count, 0);
}

/* Those that have answered are not kept beyond a number, quiet or not. */
static void test_held(void **state)
{
	unsigned held = 0;

	(void)state;
	f->config.pool_min = f->target = 100;
	pool_bed_advance(bed, 200 * MS);
	for (unsigned i = 0; i < 100; i++) {
		serve();
		held = held == POOL_HELD_MAX ? POOL_HELD_MAX / 2 : held + 1;
		assert_int_equal(bed->pool.held_count, held);
	}
	pool_bed_advance(bed, 10 * MS);
	assert_int_equal(bed->pool.held_count, 0);
}

/* A few at once, and more while requests wait. */
static void test_builds_at_once(void **state)
{
	(void)state;
	f->config.pool_min = f->target = 40;
	bed->pool.limits.bare = 0;
	bed->manual = true;
	pool_bed_advance(bed, 100 * MS);
	assert_int_equal(fake_count(bed, FAKE_MADE), POOL_REFILLS_MAX);
	for (unsigned i = 0; i < 10; i++) {
		r[i].number = i;
		assert_true(request_begin(bed, &r[i], f, 3000 * MS));
		pool_bed_advance(bed, 1 * MS);
		assert_in_range(fake_count(bed, FAKE_MADE), POOL_REFILLS_MAX, POOL_BUILDS_MAX);
	}
	assert_int_equal(fake_count(bed, FAKE_MADE), POOL_BUILDS_MAX);
	for (unsigned i = 0; i < 10; i++) {
		fake_ready(fake_find(bed, FAKE_MADE, 0), NULL);
		pool_bed_step(bed);
		assert_int_equal(f->active, i + 1);
	}
}

/* Functions take turns. */
static void test_turns(void **state)
{
	struct function *g;

	(void)state;
	g = pool_bed_function(bed, "g", true);
	f->config.pool_min = f->target = g->config.pool_min = g->target = 20;
	bed->manual = true;
	pool_bed_step(bed);
	pool_bed_advance(bed, 10 * MS);
	for (unsigned i = 0; i < 20; i++) {
		int more = (int)(f->stats.builds - g->stats.builds);

		assert_in_range(more + 1, 0, 2);
		for (unsigned k = 0; k < POOL_REFILLS_MAX; k++)
			fake_ready(fake_find(bed, FAKE_MADE, 0), NULL);
		pool_bed_advance(bed, 10 * MS);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_minimum),        TEST(test_follows_rate), TEST(test_maximum),
		TEST(test_no_pool),        TEST(test_refill_rate),  TEST(test_rest),
		TEST(test_quiet),          TEST(test_overdue),      TEST(test_held),
		TEST(test_builds_at_once), TEST(test_turns),
	};

	return cmocka_run_group_tests_name("pool_refill", tests, NULL, NULL);
}
