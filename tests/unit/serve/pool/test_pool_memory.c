/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The budget of memory (serve/pool/build.c): what is armed for later never takes more, a request makes room
 * among what waits, and a machine that fits in no budget is said.
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

#define MIB 1048576ull

static struct pool_bed *bed;
static struct function *f, *g;
static struct request r[16];

/* Two functions, of which f wants 20 armed clones of 2 MiB each, and memory for so many MiB. */
static void open_pool(unsigned mib, unsigned bare)
{
	bed = pool_bed_open(50, bare);
	bed->pool.limits.memory = mib * MIB;
	pool_bed_written_pages = 256;
	f = pool_bed_function(bed, "f", true);
	g = pool_bed_function(bed, "g", true);
	f->config.pool_min = f->target = 20;
	g->config.pool_min = g->target = g->config.pool_max = 0;
	memset(r, 0, sizeof(r));
}

static int close_pool(void **state)
{
	(void)state;
	pool_bed_close(bed);
	pool_bed_written_pages = 10;
	return 0;
}

static void begin(struct function *function, unsigned i)
{
	r[i].number = i;
	assert_true(request_begin(bed, &r[i], function, 3000 * MS));
	pool_bed_step(bed);
}

static void answer(unsigned i)
{
	fake_answer(fake_of(bed, &r[i]), OUTCOME_RESPONSE, "x");
	pool_bed_step(bed);
	request_expect(&r[i], OUTCOME_RESPONSE, "x");
}

static void test_never_beyond(void **state)
{
	(void)state;
	open_pool(17, 2);
	for (unsigned i = 0; i < 100; i++) {
		pool_bed_advance(bed, 20 * MS);
		assert_true(bed->pool.memory <= 17 * MIB);
	}
	/* Seven of 2 MiB and two bare ones of 1, or eight and one. */
	assert_in_range(f->armed_count, 7, 8);
	assert_in_range(bed->pool.memory, 16 * MIB, 17 * MIB);
	/* With more there are as many as are wanted. */
	bed->pool.limits.memory = 100 * MIB;
	pool_bed_advance(bed, 2000 * MS);
	assert_int_equal(f->armed_count, 20);
	assert_int_equal(bed->pool.memory, 20 * 2 * MIB + 2 * MIB);
}

static void test_requests_make_room(void **state)
{
	(void)state;
	open_pool(16, 0);
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(f->armed_count, 8);
	begin(g, 0);
	pool_bed_advance(bed, 100 * MS);
	answer(0);
	assert_int_equal(r[0].inv.tier, TIER_BUILT);
	assert_true(bed->pool.memory <= 16 * MIB);
	/* All of it is running: one more waits until one of them ends. */
	for (unsigned i = 1; i <= 8; i++) {
		begin(f, i);
		pool_bed_advance(bed, 200 * MS);
	}
	begin(g, 9);
	pool_bed_advance(bed, 500 * MS);
	assert_int_equal(bed->pool.active, 8);
	assert_int_equal(r[9].done, 0);
	answer(1);
	pool_bed_advance(bed, 100 * MS);
	answer(9);
	for (unsigned i = 2; i <= 8; i++)
		answer(i);
}

static void test_too_large_for_any(void **state)
{
	(void)state;
	open_pool(16, 0);
	pool_bed_written_pages = 4096;
	function_set_version(&bed->pool, g, pool_bed_version(bed, "g"));
	begin(g, 0);
	pool_bed_advance(bed, 100 * MS);
	request_expect(&r[0], OUTCOME_HOST,
		       "a machine takes 17 MiB before it runs, and of the 16 MiB of key "
		       "'memory_total'");
}

/* A bare shell takes its template's pages with the request, once there is room for them. */
static void test_bare_becomes_more(void **state)
{
	(void)state;
	open_pool(17, 1);
	g->config.policy = POLICY_RESET;
	f->config.pool_min = f->target = 8;
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(f->armed_count, 8);
	assert_int_equal(bed->pool.memory, 17 * MIB);
	begin(g, 0);
	assert_true(bed->pool.memory <= 17 * MIB);
	pool_bed_advance(bed, 100 * MS);
	assert_int_equal(r[0].inv.tier, TIER_BARE);
	assert_true(bed->pool.memory <= 17 * MIB);
	answer(0);
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(g->stats.resets, 1);
	assert_true(bed->pool.memory <= 17 * MIB);
}

/* However many wait and are wanted at once; those that there is no memory for have theirs in turn. */
static void test_many_bare(void **state)
{
	unsigned done = 0, most = 0;

	(void)state;
	open_pool(17, 16);
	f->config.pool_min = f->target = 0;
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(bed->pool.memory, 16 * MIB);
	for (unsigned i = 0; i < 16; i++) {
		begin(g, i);
		assert_true(bed->pool.memory <= 17 * MIB);
	}
	for (unsigned turn = 0; turn < 100 && done < 16; turn++) {
		pool_bed_advance(bed, 10 * MS);
		assert_true(bed->pool.memory <= 17 * MIB);
		most = bed->pool.active > most ? bed->pool.active : most;
		for (unsigned i = 0; i < 16; i++) {
			if (!r[i].inv.shell)
				continue;
			answer(i);
			done++;
		}
	}
	assert_int_equal(done, 16);
	assert_in_range(most, 7, 8);
}

/* One that fits in no budget is said though bare ones wait. */
static void test_bare_too_large_for_any(void **state)
{
	(void)state;
	open_pool(16, 4);
	f->config.pool_min = f->target = 0;
	pool_bed_written_pages = 4096;
	function_set_version(&bed->pool, g, pool_bed_version(bed, "g"));
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(bed->pool.memory, 4 * MIB);
	begin(g, 0);
	request_expect(&r[0], OUTCOME_HOST,
		       "a machine takes 17 MiB before it runs, and of the 16 MiB of key "
		       "'memory_total'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_never_beyond, close_pool),
		cmocka_unit_test_teardown(test_requests_make_room, close_pool),
		cmocka_unit_test_teardown(test_too_large_for_any, close_pool),
		cmocka_unit_test_teardown(test_bare_becomes_more, close_pool),
		cmocka_unit_test_teardown(test_many_bare, close_pool),
		cmocka_unit_test_teardown(test_bare_too_large_for_any, close_pool),
	};

	return cmocka_run_group_tests_name("pool_memory", tests, NULL, NULL);
}
