/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool/pool.c and serve/pool/request.c: which shell a request gets and what is counted, bounds,
 * time-outs, hang-ups, and what policies and new versions of a template do to shells. What breaks is
 * in test_pool_faults.c.
 *
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_one.h"

/* --- Tiers --- */

static void test_armed(void **state)
{
	(void)state;
	settle();
	assert_int_equal(f->armed_count, 2);
	assert_int_equal(f->stats.builds, 2);
	assert_int_equal(pool_one->pool.shapes->ready_count, 1);
	begin(0);
	assert_int_equal(f->active, 1);
	assert_true(fake_of(pool_one, &r[0])->armed);
	answer(0);
	assert_string_equal(r[0].log, "log\n");
	assert_int_equal(r[0].inv.tier, TIER_ARMED);
	assert_int_equal(f->stats.tiers[TIER_ARMED], 1);
	for (unsigned i = 0; i < FALLBACK_COUNT; i++)
		assert_int_equal(f->stats.fallbacks[i], 0);
	/* It is of no more use, and another is made in its place when it is quiet. */
	assert_int_equal(pool_one->pool.held_count, 1);
	settle();
	assert_int_equal(pool_one->pool.held_count, 0);
	assert_int_equal(pool_one->let_go, 1);
	assert_true(f->armed_count >= 2);
}

static void test_bare(void **state)
{
	(void)state;
	f->config.pool_min = f->target = 0;
	settle();
	assert_int_equal(f->armed_count, 0);
	begin(0);
	assert_false(fake_of(pool_one, &r[0])->armed);
	answer(0);
	assert_int_equal(r[0].inv.tier, TIER_BARE);
	assert_int_equal(f->stats.tiers[TIER_BARE], 1);
	assert_int_equal(f->stats.fallbacks[FALLBACK_BARE], 1);
	assert_int_equal(f->stats.fallbacks[FALLBACK_NO_SHELL], 0);
	/* For a function that never has armed ones it is what it was set up for. */
	f->config.pool_max = 0;
	settle();
	begin(1);
	answer(1);
	assert_int_equal(f->stats.tiers[TIER_BARE], 2);
	assert_int_equal(f->stats.fallbacks[FALLBACK_BARE], 1);
}

/* None is ready: one is made at once, and the request waits for it. */
static void test_built(void **state)
{
	(void)state;
	begin(0);
	answer(0);
	assert_int_equal(r[0].inv.tier, TIER_BUILT);
	assert_int_equal(f->stats.tiers[TIER_BUILT], 1);
	assert_int_equal(f->stats.fallbacks[FALLBACK_NO_SHELL], 1);
	assert_int_equal(f->stats.fallbacks[FALLBACK_BARE], 0);
	assert_int_equal(f->stats.fallbacks[FALLBACK_NO_WORKING_SET], 0);
	/* Also for the second of two that wait, even if its shell is ready before it is its turn. */
	function_set_version(&pool_one->pool, f, pool_bed_version(pool_one, "f"));
	pool_one->pool.limits.bare = f->config.pool_min = f->config.pool_max = f->target = 0;
	while (pool_one->pool.shapes->ready)
		pool_let_go(pool_one->pool.shapes->ready);
	pool_one->manual = true;
	pool_bed_step(pool_one);
	begin(1);
	begin(2);
	assert_int_equal(fake_count(pool_one, FAKE_MADE), 2);
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	pool_bed_step(pool_one);
	answer(1);
	answer(2);
	assert_int_equal(f->stats.tiers[TIER_BUILT], 3);
	assert_int_equal(f->stats.fallbacks[FALLBACK_NO_SHELL], 3);
}

static void test_no_working_set(void **state)
{
	struct function *plain;

	(void)state;
	pool_bed_written_pages = 0;
	plain = pool_bed_function(pool_one, "plain", true);
	pool_bed_written_pages = 10;
	settle();
	assert_true(request_begin(pool_one, &r[0], plain, 3000 * MS));
	pool_bed_step(pool_one);
	answer(0);
	assert_int_equal(plain->stats.fallbacks[FALLBACK_NO_WORKING_SET], 1);
	assert_int_equal(plain->stats.fallbacks[FALLBACK_NO_SHELL], 0);
}

/* --- Bounds --- */

static void test_queue_bound(void **state)
{
	(void)state;
	f->config.concurrency = 2;
	f->config.queue = 3;
	for (unsigned i = 0; i < 5; i++)
		begin(i);
	assert_int_equal(f->active, 2);
	assert_int_equal(f->waiting, 3);
	for (unsigned i = 5; i < 8; i++)
		assert_false(request_begin(pool_one, &r[i], f, 3000 * MS));
	answer(0);
	assert_int_equal(f->active, 2);
	assert_int_equal(f->waiting, 2);
	begin(5);
	assert_false(request_begin(pool_one, &r[6], f, 3000 * MS));
	for (unsigned i = 1; i < 6; i++)
		answer(i); /* in the order in which they came */
	assert_int_equal(f->active + f->waiting, 0);
}

static void test_no_queue(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	f->config.queue = 0;
	begin(0);
	assert_false(request_begin(pool_one, &r[1], f, 3000 * MS));
	answer(0);
	begin(2);
	answer(2);
}

/* The pool as a whole has a bound: what waits takes its turn as shells go. */
static void test_all_shells(void **state)
{
	(void)state;
	f->config.concurrency = f->config.queue = 100;
	for (unsigned i = 0; i < 60; i++)
		begin(i);
	assert_int_equal(f->active, SHELLS);
	assert_int_equal(pool_one->pool.alive, SHELLS);
	for (unsigned i = 0; i < 60; i++) {
		answer(i);
		pool_bed_advance(pool_one, 3 * MS);
		assert_int_equal(f->active, i < 20 ? SHELLS : 59 - i);
	}
	assert_int_equal(f->active + f->waiting, 0);
}

/* One that needs room gets it from whoever has most that is not in use. */
static void test_make_room(void **state)
{
	struct function *other;
	unsigned most = SHELLS - 1; /* and a bare one */

	(void)state;
	f->config.pool_min = f->config.pool_max = most;
	f->target = most;
	pool_bed_advance(pool_one, 1000 * MS);
	assert_int_equal(f->armed_count, most);
	assert_int_equal(pool_one->pool.alive, SHELLS);
	pool_bed_memory *= 2; /* of another shape: the bare one is not for it */
	other = pool_bed_function(pool_one, "other", true);
	pool_bed_memory /= 2;
	other->config.pool_min = other->target = 0;
	for (unsigned i = 0; i < 5; i++) {
		assert_true(request_begin(pool_one, &r[i], other, 3000 * MS));
		pool_bed_advance(pool_one, 5 * MS);
		assert_int_equal(other->active, i + 1);
	}
	for (unsigned i = 0; i < 5; i++)
		answer(i);
}

/* --- Time --- */

static void test_late_in_queue(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	assert_true(request_begin(pool_one, &r[0], f, 5000 * MS));
	assert_true(request_begin(pool_one, &r[1], f, 1000 * MS));
	assert_true(request_begin(pool_one, &r[2], f, 2000 * MS));
	pool_bed_advance(pool_one, 1000 * MS - 1);
	assert_int_equal(r[1].done, 0);
	pool_bed_advance(pool_one, 1);
	assert_true(r[1].done == 1 && r[1].throttled && !r[1].timed_out);
	pool_bed_advance(pool_one, 1000 * MS);
	assert_true(r[2].throttled && !r[2].timed_out && pool_one->killed == 0);
	answer(0);
}

/* The guest has what is left of the time, and its machine is stopped when that is over. */
static void test_late_running(void **state)
{
	(void)state;
	settle();
	f->config.concurrency = 1;
	assert_true(request_begin(pool_one, &r[0], f, 50 * MS));
	begin(1);
	assert_int_equal(fake_of(pool_one, &r[0])->head.deadline_us, 50 * MS);
	pool_bed_advance(pool_one, 50 * MS - 1);
	assert_int_equal(r[0].done, 0);
	pool_bed_advance(pool_one, 1);
	assert_int_equal(r[0].done, 1);
	assert_true(r[0].timed_out && !r[0].throttled);
	assert_int_equal(pool_one->killed, 1);
	answer(1); /* who waited has its place at once */
	assert_int_equal(f->active, 0);
}

/* Of one that waited, too. */
static void test_deadline_after_waiting(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	begin(0);
	begin(1);
	pool_bed_advance(pool_one, 1000 * MS);
	answer(0);
	assert_int_equal(fake_of(pool_one, &r[1])->head.deadline_us, 2000 * MS);
	answer(1);
}

/* --- Callers that hang up --- */

static void test_cancel_waiting(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	for (unsigned i = 0; i < 4; i++)
		begin(i);
	request_cancel(&r[1]);
	request_cancel(&r[3]);
	pool_bed_step(pool_one);
	assert_int_equal(f->waiting, 1);
	assert_int_equal(pool_one->killed, 0);
	answer(0);
	answer(2);
	assert_int_equal(r[1].done + r[3].done, 0);
}

static void test_cancel_running(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	begin(0);
	begin(1);
	request_cancel(&r[0]);
	pool_bed_step(pool_one);
	assert_int_equal(pool_one->killed, 1);
	answer(1);
	assert_int_equal(r[0].done, 0);
}

/* The last request of a kind is cancelled while a shell is made for it: that one is armed then. */
static void test_cancel_building(void **state)
{
	(void)state;
	pool_one->manual = true;
	begin(0);
	request_cancel(&r[0]);
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	pool_bed_step(pool_one);
	assert_int_equal(f->armed_count, 1);
	begin(1);
	answer(1);
	assert_int_equal(r[1].inv.tier, TIER_ARMED);
}

/* --- Policies --- */

static void test_reset(void **state)
{
	(void)state;
	f->config.policy = POLICY_RESET;
	settle();
	pool_one->manual = true;
	for (unsigned i = 0; i < 5; i++) {
		begin(i);
		assert_int_equal(fake_of(pool_one, &r[i])->head.policy, POLICY_RESET);
		answer(i);
		assert_int_equal(r[i].inv.tier, TIER_ARMED);
		assert_int_equal(f->armed_count, 1);
		fake_ready(fake_find(pool_one, FAKE_TURNS, 0), NULL);
		pool_bed_step(pool_one);
		assert_int_equal(f->armed_count, 2);
		assert_int_equal(f->stats.resets, i + 1);
	}
	assert_int_equal(pool_one->spawned, 3);
	assert_int_equal(pool_one->let_go + pool_one->killed, 0);
}

static void test_keep(void **state)
{
	(void)state;
	f->config.policy = POLICY_KEEP;
	f->config.idle_timeout_ms = 500;
	settle();
	begin(0);
	answer(0);
	assert_int_equal(r[0].inv.tier, TIER_ARMED);
	assert_int_equal(f->kept_count, 1);
	pool_bed_advance(pool_one, 499 * MS);
	begin(1);
	pool_bed_advance(pool_one,
			 600 * MS); /* the time that it may idle is none in which it runs */
	answer(1);
	assert_int_equal(r[1].inv.tier, TIER_KEPT);
	assert_int_equal(f->stats.tiers[TIER_KEPT], 1);
	assert_int_equal(f->stats.resets, 0);
	pool_bed_advance(pool_one, 499 * MS);
	assert_int_equal(f->kept_count, 1);
	pool_bed_advance(pool_one, 1 * MS);
	assert_int_equal(f->kept_count, 0);
	settle();
	assert_int_equal(pool_one->let_go, 1);
}

/* An answer after which a machine does not stand, whatever the policy. */
static void test_ends_of_guests(void **state)
{
	static const enum invocation_outcome outcomes[] = { OUTCOME_BROKEN, OUTCOME_ENDED,
							    OUTCOME_CRASHED, OUTCOME_HOST,
							    OUTCOME_TOO_LARGE };

	(void)state;
	f->config.policy = POLICY_RESET;
	settle();
	for (unsigned i = 0; i < 5; i++) {
		begin(i);
		fake_answer(fake_of(pool_one, &r[i]), outcomes[i], "what happened");
		pool_bed_step(pool_one);
		request_expect(&r[i], outcomes[i], "what happened");
		assert_int_equal(f->stats.resets, 0);
		settle();
		assert_int_equal(pool_one->let_go, i + 1);
	}
	/* After an error of the guest's, or an answer that is no JSON, it does. */
	for (unsigned i = 5; i < 7; i++) {
		begin(i);
		fake_answer(fake_of(pool_one, &r[i]), i == 5 ? OUTCOME_ERROR : OUTCOME_ANSWER_JSON,
			    "");
		settle();
		assert_int_equal(f->stats.resets, i - 4);
	}
	assert_int_equal(pool_one->let_go, 5);
}

/* A shell that says that a request was no JSON is believed that, and nothing more. */
static void test_not_json(void **state)
{
	unsigned before;

	(void)state;
	f->config.json = true;
	settle();
	for (unsigned i = 0; i < 10; i++) {
		begin(i);
		assert_int_equal(fake_of(pool_one, &r[i])->head.flags & INVOKE_JSON, INVOKE_JSON);
		fake_answer(fake_of(pool_one, &r[i]), OUTCOME_NOT_JSON, "no");
		pool_bed_step(pool_one);
		request_expect(&r[i], OUTCOME_NOT_JSON, "no");
	}
	settle();
	assert_int_equal(pool_one->let_go, 10);
	/* A bare one as well, by whatever policy. */
	f->config.pool_min = f->config.pool_max = f->target = 0;
	f->config.policy = POLICY_KEEP;
	settle();
	before = pool_one->let_go;
	for (unsigned i = 10; i < 20; i++) {
		begin(i);
		assert_false(fake_of(pool_one, &r[i])->armed);
		fake_answer(fake_of(pool_one, &r[i]), OUTCOME_NOT_JSON, "no");
		settle();
	}
	assert_int_equal(pool_one->let_go - before, 10);
	begin(20);
	answer(20);
}

/* --- Versions --- */

/* A new version while requests run and wait: those that run finish on the old one. */
static void test_new_version(void **state)
{
	struct function_version *old = f->version, *new;

	(void)state;
	f->config.concurrency = 2;
	settle();
	for (unsigned i = 0; i < 4; i++)
		begin(i);
	assert_int_equal(fake_of(pool_one, &r[0])->template, old->id);
	new = pool_bed_version(pool_one, "f");
	assert_int_not_equal(new->id, old->id);
	function_set_version(&pool_one->pool, f, new);
	pool_bed_step(pool_one);
	assert_int_equal(old->users, 2);
	answer(0);
	answer(1);
	for (unsigned i = 2; i < 4; i++) {
		struct fake_shell *s = fake_of(pool_one, &r[i]);

		/* By a bare shell: the template came with the request. */
		assert_true(s->template == new->id || !s->armed);
		answer(i);
	}
	settle();
	assert_int_equal(pool_one->template_count, 1);
	assert_int_equal(pool_one->templates[0], new->id);
	assert_ptr_equal(pool_one->pool.versions, new);
	assert_int_equal(f->armed_count, f->target);
}

/* Shells that wait, are made or turn are of the old one: none of them serves any more. */
static void test_new_version_states(void **state)
{
	struct function_version *old = f->version;

	(void)state;
	f->config.policy = POLICY_RESET;
	settle();
	pool_one->manual = true;
	begin(0);
	begin(1);
	answer(0); /* turns */
	begin(2);  /* a bare one, one is made armed */
	begin(3);
	function_set_version(&pool_one->pool, f, pool_bed_version(pool_one, "f"));
	pool_bed_step(pool_one);
	while (fake_count(pool_one, FAKE_MADE))
		fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	fake_ready(fake_find(pool_one, FAKE_TURNS, 0), NULL);
	pool_one->manual = false;
	pool_bed_advance(pool_one, 10 * MS);
	for (unsigned i = 1; i < 4; i++)
		answer(i);
	settle();
	for (const struct function_version *v = pool_one->pool.versions; v; v = v->next)
		assert_ptr_not_equal(v, old);
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		if (pool_one->shells[i].state != FAKE_NONE && pool_one->shells[i].armed)
			assert_int_equal(pool_one->shells[i].template, f->version->id);
}

/* The template is gone: who waits is told, who runs finishes, and nothing of it is left. */
static void test_no_version(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	settle();
	begin(0);
	begin(1);
	function_set_version(&pool_one->pool, f, NULL);
	pool_bed_step(pool_one);
	answer(0);
	request_expect(&r[1], OUTCOME_HOST, "its template is not there");
	assert_true(request_begin(pool_one, &r[2], f, 3000 * MS));
	request_expect(&r[2], OUTCOME_HOST, "its template is not there");
	settle();
	assert_null(pool_one->pool.versions);
	assert_null(pool_one->pool.shapes);
	assert_int_equal(pool_one->pool.alive, 0);
	assert_int_equal(pool_one->template_count, 0);
}

static void test_remove(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	settle();
	begin(0);
	begin(1);
	assert_ptr_equal(function_find(&pool_one->pool, "f", 1), f);
	function_remove(&pool_one->pool, f);
	request_expect(&r[1], OUTCOME_HOST, "the function was removed");
	assert_null(function_find(&pool_one->pool, "f", 1));
	assert_ptr_equal(pool_one->pool.functions, f);
	answer(0);
	settle();
	assert_null(pool_one->pool.functions);
	assert_int_equal(pool_one->pool.alive, 0);
}

/* Two functions of equal machines share bare shells, not armed ones. */
static void test_two_functions(void **state)
{
	struct function *g = pool_bed_function(pool_one, "g", true);

	(void)state;
	g->config.pool_min = g->target = 0;
	settle();
	assert_ptr_equal(f->version->shape, g->version->shape);
	assert_int_equal(f->armed_count, 2);
	assert_true(request_begin(pool_one, &r[0], g, 3000 * MS));
	pool_bed_step(pool_one);
	assert_int_equal(f->armed_count, 2);
	assert_int_equal(g->active, 1);
	assert_int_equal(f->active, 0);
	answer(0);
	assert_int_equal(r[0].inv.tier, TIER_BARE);
	assert_ptr_equal(function_find(&pool_one->pool, "g", 1), g);
	assert_null(function_find(&pool_one->pool, "gg", 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_one_open, pool_one_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_armed),
		TEST(test_bare),
		TEST(test_built),
		TEST(test_no_working_set),
		TEST(test_queue_bound),
		TEST(test_no_queue),
		TEST(test_all_shells),
		TEST(test_make_room),
		TEST(test_late_in_queue),
		TEST(test_late_running),
		TEST(test_deadline_after_waiting),
		TEST(test_cancel_waiting),
		TEST(test_cancel_running),
		TEST(test_cancel_building),
		TEST(test_reset),
		TEST(test_keep),
		TEST(test_ends_of_guests),
		TEST(test_not_json),
		TEST(test_new_version),
		TEST(test_new_version_states),
		TEST(test_no_version),
		TEST(test_remove),
		TEST(test_two_functions),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
