/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch/base/timers.c: each timer expires once, in its turn, never early, whatever is set and cleared
 * meanwhile; compared with a list that is searched.
 */
#include "arch/base/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>
#include <limits.h>
#include <stdlib.h>

#include "tests/unit/seed.h"

#define COUNT 200u

struct model {
	struct timer timer;
	struct bed *bed;
	bool set;
	unsigned expired;
};

struct bed {
	struct timers timers;
	struct model list[COUNT];
	uint64_t now_us;
	uint64_t last_us; /* time of the timer that expired last */
	bool busy;        /* callbacks set and clear others */
};

static struct seed seed;

static void model_set(struct model *m, uint64_t at_us)
{
	timer_set(&m->bed->timers, &m->timer, at_us);
	m->set = true;
	if (at_us < m->bed->last_us)
		m->bed->last_us = at_us; /* it is the next one */
}

static void model_clear(struct model *m)
{
	timer_clear(&m->bed->timers, &m->timer);
	m->set = false;
}

static void model_change(struct bed *bed)
{
	struct model *m = &bed->list[seed_below(&seed, COUNT)];

	if (seed_below(&seed, 3))
		model_set(m, bed->now_us - 500 + seed_below(&seed, 2000));
	else
		model_clear(m);
}

static void expired(void *opaque)
{
	struct model *m = opaque;
	struct bed *bed = m->bed;

	assert_true(m->set);
	assert_int_equal(m->timer.place, 0);
	assert_true(m->timer.at_us <= bed->now_us);
	assert_true(m->timer.at_us >= bed->last_us);
	for (unsigned i = 0; i < COUNT; i++)
		assert_true(!bed->list[i].set || bed->list[i].timer.at_us >= m->timer.at_us);
	bed->last_us = m->timer.at_us;
	m->set = false;
	m->expired++;
	for (uint64_t n = bed->busy ? seed_below(&seed, 3) : 0; n; n--)
		model_change(bed);
}

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	bed->now_us = 1000000;
	for (unsigned i = 0; i < COUNT; i++)
		bed->list[i] = (struct model){
			.bed = bed,
			.timer = { .expired = expired, .opaque = &bed->list[i] },
		};
	*state = bed;
	return timers_reserve(&bed->timers, COUNT);
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	timers_fini(&bed->timers);
	free(bed);
	return 0;
}

static void run(struct bed *bed, uint64_t now_us)
{
	bed->now_us = now_us;
	bed->last_us = 0;
	timers_run(&bed->timers, now_us);
}

/* What the list says of the heap: how many are set, when the next is due, none is overdue. */
static void check_model(struct bed *bed, bool ran)
{
	uint64_t next_us = UINT64_MAX;
	unsigned count = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		struct model *m = &bed->list[i];

		assert_int_equal(m->set, m->timer.place != 0);
		if (!m->set)
			continue;
		count++;
		assert_ptr_equal(bed->timers.heap[m->timer.place], &m->timer);
		assert_true(!ran || m->timer.at_us > bed->now_us);
		next_us = m->timer.at_us < next_us ? m->timer.at_us : next_us;
	}
	assert_int_equal(bed->timers.count, count);
	assert_int_equal(timers_wait_ms(&bed->timers, bed->now_us),
			 !count                   ? -1
			 : next_us <= bed->now_us ? 0
						  : (int)((next_us - bed->now_us + 999) / 1000));
}

static void check_random(struct bed *bed, bool busy)
{
	bed->busy = busy;
	for (unsigned round = 0; round < 3000; round++) {
		for (uint64_t n = seed_below(&seed, 20); n; n--)
			model_change(bed);
		check_model(bed, false);
		run(bed, bed->now_us + seed_below(&seed, 400));
		check_model(bed, true);
	}
	bed->busy = false;
	run(bed, bed->now_us + 10000);
	assert_int_equal(bed->timers.count, 0);
	for (unsigned i = 0; i < COUNT; i++)
		assert_true(bed->list[i].expired > 10);
}

static void test_random(void **state)
{
	check_random(*state, false);
}

static void test_callbacks_change_others(void **state)
{
	check_random(*state, true);
}

/* Up, down and equal. */
static void test_orders(void **state)
{
	struct bed *bed = *state;

	for (unsigned how = 0; how < 3; how++) {
		for (unsigned i = 0; i < COUNT; i++)
			model_set(&bed->list[i], 2000000 + (how == 0   ? i
							    : how == 1 ? COUNT - i
								       : 0));
		run(bed, 1999999);
		assert_int_equal(bed->timers.count, COUNT);
		run(bed, 3000000);
		for (unsigned i = 0; i < COUNT; i++)
			assert_int_equal(bed->list[i].expired, how + 1);
	}
}

static void test_edges(void **state)
{
	struct bed *bed = *state;
	struct model *m = &bed->list[0];

	assert_int_equal(timers_wait_ms(&bed->timers, 0), -1);
	run(bed, UINT64_MAX);
	model_clear(m);
	model_set(m, 5000);
	assert_int_equal(timers_wait_ms(&bed->timers, 5001), 0);
	assert_int_equal(timers_wait_ms(&bed->timers, 5000), 0);
	assert_int_equal(timers_wait_ms(&bed->timers, 4999), 1);
	assert_int_equal(timers_wait_ms(&bed->timers, 4000), 1);
	assert_int_equal(timers_wait_ms(&bed->timers, 3999), 2);
	model_set(m, UINT64_MAX / 2);
	assert_int_equal(timers_wait_ms(&bed->timers, 0), INT_MAX);
	model_set(m, 10);
	model_set(m, 20);
	run(bed, 19);
	assert_int_equal(m->expired, 0);
	run(bed, 20);
	run(bed, 30);
	assert_int_equal(m->expired, 1);
	/* There is room already; and for more. */
	assert_int_equal(timers_reserve(&bed->timers, 1), 0);
	model_set(m, 40);
	assert_int_equal(timers_reserve(&bed->timers, 10 * COUNT), 0);
	run(bed, 40);
	assert_int_equal(m->expired, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random),
		TEST(test_callbacks_change_others),
		TEST(test_orders),
		TEST(test_edges),
	};

	seed = seed_begin(4010);
	return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}
