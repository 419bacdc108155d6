/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool/pool.c and serve/pool/spawner.c when the spawner is gone, deaf or cannot be started, when there are
 * no descriptors, and at the end: who asked is told once, the others are served, nothing is left.
 *
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open notef
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_one.h"

/* --- The spawner --- */

/* What ran is lost, what waits is served by the next one. */
static void test_spawner_dies(void **state)
{
	(void)state;
	f->config.concurrency = 3;
	settle();
	for (unsigned i = 0; i < 8; i++)
		begin(i);
	assert_int_equal(f->active, 3);
	fake_spawner_dies(pool_one);
	pool_bed_step(pool_one);
	assert_int_equal(pool_one->forks, 2);
	assert_int_equal(pool_one->template_count, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(r[i].outcome, OUTCOME_HOST);
	pool_bed_advance(pool_one, 10 * MS);
	for (unsigned i = 3; i < 8; i++)
		answer(i);
	/* Those that come before that is noticed, too. */
	settle();
	fake_spawner_dies(pool_one);
	for (unsigned i = 20; i < 25; i++)
		assert_true(request_begin(pool_one, &r[i], f, 3000 * MS));
	pool_bed_step(pool_one);
	for (unsigned i = 20; i < 25; i++)
		answer(i);
	check_well(10);
	assert_int_equal(pool_one->pool.stats.spawner_starts, 3);
}

/* With shells in every state. */
static void test_spawner_dies_with_all(void **state)
{
	struct function *g = pool_bed_function(pool_one, "g", true);

	(void)state;
	f->config.policy = POLICY_RESET;
	g->config.policy = POLICY_KEEP;
	settle();
	begin(0);
	answer(0);
	assert_true(request_begin(pool_one, &r[1], g, 3000 * MS));
	pool_bed_step(pool_one);
	answer(1); /* one is kept */
	settle();
	pool_one->manual = true;
	begin(2);
	answer(2); /* one turns */
	begin(3);
	for (unsigned i = 4; i < 10; i++)
		begin(i); /* some are made */
	fake_spawner_dies(pool_one);
	pool_one->manual = false;
	pool_bed_step(pool_one);
	assert_int_equal(r[3].done, 1);
	for (unsigned i = 4; i < 10; i++) {
		pool_bed_advance(pool_one, 1 * MS);
		if (!r[i].done)
			answer(i);
	}
	check_well(20);
}

/* More templates than its socket takes messages. */
static void test_spawner_dies_with_templates(void **state)
{
	static struct function *many[400];

	(void)state;
	pool_one->pool.limits.bare = 0;
	for (unsigned i = 0; i < 400; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		pool_bed_memory = (100ull + i) << 20;
		many[i] = pool_bed_function(pool_one, name, true);
		many[i]->config.pool_min = many[i]->target = 0;
		pool_bed_step(pool_one);
	}
	pool_bed_memory = 128ull << 20;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 400; i += 39) {
			assert_true(request_begin(pool_one, &r[i / 39], many[i], 3000 * MS));
			pool_bed_step(pool_one);
			answer(i / 39);
			pool_bed_advance(pool_one, 10 * MS);
		}
		fake_spawner_dies(pool_one);
		pool_bed_step(pool_one);
	}
	assert_int_equal(pool_one->forks, 3);
	/* A template that goes is forgotten by the spawner that knows it. */
	pool_bed_advance(pool_one, 1000 * MS);
	function_remove(&pool_one->pool, many[0]);
	pool_bed_step(pool_one);
	function_remove(&pool_one->pool, f);
	pool_bed_step(pool_one);
	pool_bed_advance(pool_one, 100 * MS);
	assert_int_equal(pool_one->template_count, 0);
	f = many[1];
	f->config.pool_min = 2;
	check_well(20);
}

/* It cannot be started for a while: that is said to who asks, and it is tried again. */
static void test_spawner_cannot_be_started(void **state)
{
	(void)state;
	settle();
	pool_one->no_forks = 5;
	fake_spawner_dies(pool_one);
	pool_bed_step(pool_one);
	assert_true(request_begin(pool_one, &r[0], f, 3000 * MS));
	pool_bed_step(pool_one);
	assert_int_equal(r[0].done, 1);
	assert_int_equal(r[0].outcome, OUTCOME_HOST);
	pool_bed_advance(pool_one, 3000 * MS);
	assert_int_equal(pool_one->no_forks, 0);
	assert_int_equal(pool_one->forks, 2);
	check_well(1);
	/* Also when nothing is wanted of it. */
	f->config.pool_min = f->config.pool_max = f->target = pool_one->pool.limits.bare = 0;
	pool_bed_advance(pool_one, 60000 * MS);
	pool_one->no_forks = 5;
	fake_spawner_dies(pool_one);
	pool_bed_advance(pool_one, 5000 * MS);
	assert_int_equal(pool_one->forks, 3);
}

/* Nor does that fill the log, nor one that ends again and again. */
static void test_no_spawner_is_said(void **state)
{
	int kept = notes_begin();

	(void)state;
	f->config.pool_min = f->config.pool_max = f->target = pool_one->pool.limits.bare = 0;
	pool_one->no_forks = 100;
	fake_spawner_dies(pool_one);
	pool_bed_advance(pool_one, 60000 * MS);
	assert_int_equal(pool_one->no_forks, 0);
	for (unsigned i = 0; i < 50; i++) {
		fake_spawner_dies(pool_one);
		pool_bed_advance(pool_one, 1000 * MS);
	}
	assert_int_equal(notes_end(kept), NOTE_BURST);
	begin(0);
	answer(0);
}

/* It takes no orders until its socket is full; when it does again, all that was wanted is done. */
static void test_spawner_deaf(void **state)
{
	(void)state;
	f->config.concurrency = f->config.queue = 100;
	settle();
	pool_one->deaf = true;
	for (unsigned i = 0; i < 30; i++)
		begin(i);
	for (unsigned i = 0; i < 2; i++)
		request_cancel(&r[i]);
	pool_bed_advance(pool_one, 100 * MS);
	pool_one->deaf = false;
	pool_bed_advance(pool_one, 100 * MS);
	for (unsigned i = 2; i < 30; i++) {
		if (!r[i].done)
			answer(i);
		pool_bed_advance(pool_one, 3 * MS);
	}
	assert_int_equal(pool_one->killed, 2);
	check_well(40);
}

/* It is busy: that is no lack of shells, and costs no other function those that it has armed. */
static void test_spawner_busy(void **state)
{
	struct function *other;
	struct message m;

	(void)state;
	f->config.pool_min = f->config.pool_max = f->target = 4;
	pool_one->pool.limits.bare = 0;
	other = pool_bed_function(pool_one, "other", true);
	other->config.pool_min = other->config.pool_max = other->target = 0;
	pool_bed_advance(pool_one, 1000 * MS);
	assert_int_equal(f->armed_count, 4);
	begin(40); /* may have the bare one of before */
	pool_one->deaf = true;
	message_init(&m, MESSAGE_KILL);
	m.id = ~0ull;
	while (message_try(pool_one->pool.spawner.child.fd, &m) == 0)
		;
	for (unsigned i = 0; i < 3; i++) {
		assert_true(request_begin(pool_one, &r[i], other, 3000 * MS));
		pool_bed_advance(pool_one, 200 * MS);
		assert_false(r[i].done);
	}
	assert_true(other->waiting >= 2);
	assert_true(f->armed_count >= 3);
	assert_int_equal(pool_one->let_go + pool_one->killed, 0);
	pool_one->deaf = false;
	pool_bed_advance(pool_one, 100 * MS);
	assert_int_equal(other->waiting, 0);
	for (unsigned i = 0; i < 3; i++)
		answer(i);
	answer(40);
}

/* Its socket is full: an order to end a shell is kept until it can be given. */
static void test_kill_cannot_be_sent(void **state)
{
	struct message m;
	unsigned filled = 0;

	(void)state;
	settle();
	begin(0);
	pool_one->deaf = true;
	message_init(&m, MESSAGE_KILL);
	m.id = ~0ull;
	while (message_try(pool_one->pool.spawner.child.fd, &m) == 0)
		filled++;
	assert_true(filled > 10);
	request_cancel(&r[0]);
	pool_bed_advance(pool_one, 50 * MS);
	assert_int_equal(pool_one->killed, 0);
	assert_int_equal(fake_count(pool_one, FAKE_RUNS) + fake_count(pool_one, FAKE_OVER), 1);
	pool_one->deaf = false;
	pool_bed_advance(pool_one, 50 * MS);
	check_well(1);
	assert_int_equal(fake_count(pool_one, FAKE_RUNS), 0);
}

/* --- No descriptors --- */

static void test_no_descriptors(void **state)
{
	struct rlimit old, limit;

	(void)state;
	f->config.pool_min = f->config.pool_max = f->target = 0;
	settle();
	begin(0); /* has the bare one */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(request_begin(pool_one, &r[1], f, 3000 * MS));
	pool_bed_advance(pool_one, 100 * MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	request_expect(&r[1], OUTCOME_HOST, "no descriptor left (ulimit -n)");
	answer(0);
	f->config.pool_min = 2;
	f->config.pool_max = 64;
	begin(2);
	answer(2);
	check_well(3);
}

/* --- The end --- */

/* Requests that run, wait and are made for: each is told, and nothing is left (teardown). */
static void test_end_of_the_pool(void **state)
{
	(void)state;
	f->config.concurrency = 4;
	settle();
	pool_one->manual = true;
	for (unsigned i = 0; i < 8; i++)
		begin(i);
	pool_bed_close(pool_one);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].outcome, OUTCOME_HOST);
	}
	pool_one_open(NULL);
}

/* Nothing is made for later any more, and what comes is still served. */
static void test_drain(void **state)
{
	(void)state;
	settle();
	begin(0);
	pool_drain(&pool_one->pool);
	pool_bed_advance(pool_one, 1000 * MS);
	assert_int_equal(f->armed_count, 0);
	answer(0);
	begin(1);
	answer(1);
	pool_bed_advance(pool_one, 1000 * MS);
	assert_int_equal(f->armed_count, 0);
	assert_int_equal(f->active + f->waiting, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_one_open, pool_one_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_spawner_dies),
		TEST(test_spawner_dies_with_all),
		TEST(test_spawner_dies_with_templates),
		TEST(test_spawner_cannot_be_started),
		TEST(test_no_spawner_is_said),
		TEST(test_spawner_deaf),
		TEST(test_spawner_busy),
		TEST(test_kill_cannot_be_sent),
		TEST(test_no_descriptors),
		TEST(test_end_of_the_pool),
		TEST(test_drain),
	};

	return cmocka_run_group_tests_name("pool_spawner", tests, NULL, NULL);
}
