/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must always hold of a pool (tests/unit/serve/pool/pool_bed.h): counted anew from its shells, functions and
 * lists, and compared with its own sums.
 */
#include "tests/unit/serve/pool/pool_bed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A list of shells: all in that state, linked both ways, so many. */
static void check_list(const struct pool_shell *first, enum pool_state state, unsigned count)
{
	const struct pool_shell *previous = NULL;
	unsigned n = 0;

	for (const struct pool_shell *s = first; s; s = s->next) {
		assert_int_equal(s->state, state);
		assert_ptr_equal(s->previous, previous);
		previous = s;
		assert_true(++n <= count);
	}
	assert_int_equal(n, count);
}

/* Shells of that function, or of that shape, or all, in one state. */
static unsigned count_shells(const struct pool *pool, const struct function *f,
			     const struct shape *shape, enum pool_state state)
{
	unsigned count = 0;

	for (unsigned i = 0; i < pool->limits.shells; i++) {
		const struct pool_shell *s = &pool->shells[i];

		count += s->state == state && (!f || s->function == f) &&
			 (!shape || (s->shape == shape && !s->function));
	}
	return count;
}

static void check_shell(const struct pool *pool, const struct pool_shell *s)
{
	bool talks = s->state != POOL_FREE && s->state != POOL_GOING;

	assert_int_equal(s->fd >= 0, talks);
	assert_int_equal(s->watch != NULL, talks);
	assert_int_equal(s->function != NULL, s->version != NULL);
	assert_int_equal(s->invocation != NULL, s->state == POOL_RUNNING);
	if (s->invocation)
		assert_ptr_equal(s->invocation->shell, s);
	/* A machine is counted from its order to its end, with what its template has it copy. */
	assert_true(s->memory == (s->state == POOL_FREE ? 0
				  : s->version ? (1u << 20) + s->version->written_pages * 4096ull
					       : 1u << 20));
	if (s->state == POOL_FREE)
		assert_false(s->function || s->shape || s->timer.place || s->kill_wanted);
	if (s->state == POOL_BARE)
		assert_true(s->shape && !s->function);
	if (s->state == POOL_ARMED || s->state == POOL_KEPT)
		assert_ptr_equal(s->version, s->function->version);
	if (s->state == POOL_BUILDING || s->state == POOL_TURNING || s->state == POOL_KEPT)
		assert_true(s->timer.place > 0);
	if (s->state == POOL_BARE || s->state == POOL_ARMED || s->state == POOL_HELD)
		assert_int_equal(s->timer.place, 0);
	assert_true(!s->kill_wanted || pool->orders_wanted);
}

static void check_queue(const struct function *f)
{
	const struct invocation *previous = NULL;
	unsigned n = 0;

	for (const struct invocation *inv = f->first; inv; inv = inv->next) {
		assert_ptr_equal(inv->previous, previous);
		assert_ptr_equal(inv->function, f);
		assert_null(inv->shell);
		assert_true(inv->timer.place > 0);
		previous = inv;
		n++;
	}
	assert_ptr_equal(f->last, previous);
	assert_int_equal(n, f->waiting);
}

static void check_function(const struct pool *pool, const struct function *f)
{
	unsigned alive = 0;

	for (unsigned i = 0; i < pool->limits.shells; i++)
		alive += pool->shells[i].function == f;
	assert_int_equal(f->alive, alive);
	check_list(f->armed, POOL_ARMED, count_shells(pool, f, NULL, POOL_ARMED));
	check_list(f->kept, POOL_KEPT, count_shells(pool, f, NULL, POOL_KEPT));
	assert_int_equal(f->armed_count, count_shells(pool, f, NULL, POOL_ARMED));
	assert_int_equal(f->kept_count, count_shells(pool, f, NULL, POOL_KEPT));
	assert_int_equal(f->building, count_shells(pool, f, NULL, POOL_BUILDING));
	assert_int_equal(f->active, count_shells(pool, f, NULL, POOL_RUNNING));
	assert_true(f->active <= f->config.concurrency);
	assert_true(f->active + f->waiting <= f->config.concurrency + f->config.queue);
	assert_true(f->target <= f->config.pool_max || f->config.pool_max < f->config.pool_min);
	check_queue(f);
}

/* Each version that is used by a function or shell is there and counted. */
static void check_versions(const struct pool *pool)
{
	for (const struct function_version *v = pool->versions; v; v = v->next) {
		const struct shape *shape = pool->shapes;
		unsigned users = 0;

		for (const struct function *f = pool->functions; f; f = f->next)
			users += f->version == v;
		for (unsigned i = 0; i < pool->limits.shells; i++)
			users += pool->shells[i].version == v;
		assert_true(v->users >= users);
		while (shape && shape != v->shape)
			shape = shape->next;
		assert_non_null(shape);
	}
}

void pool_bed_check(struct pool_bed *bed)
{
	const struct pool *pool = &bed->pool;
	unsigned waiting = 0, active = 0;
	uint64_t memory = 0;

	for (unsigned i = 0; i < pool->limits.shells; i++) {
		check_shell(pool, &pool->shells[i]);
		memory += pool->shells[i].memory;
	}
	assert_true(pool->memory == memory);
	for (const struct function *f = pool->functions; f; f = f->next) {
		check_function(pool, f);
		waiting += f->waiting;
		active += f->active;
	}
	for (const struct shape *s = pool->shapes; s; s = s->next) {
		check_list(s->ready, POOL_BARE, s->ready_count);
		assert_int_equal(s->ready_count, count_shells(pool, NULL, s, POOL_BARE));
		assert_int_equal(s->building, count_shells(pool, NULL, s, POOL_BUILDING));
	}
	check_versions(pool);
	assert_int_equal(pool->waiting, waiting);
	assert_int_equal(pool->active, active);
	assert_int_equal(pool->alive,
			 pool->limits.shells - count_shells(pool, NULL, NULL, POOL_FREE));
	assert_int_equal(pool->building, count_shells(pool, NULL, NULL, POOL_BUILDING));
	check_list(pool->held, POOL_HELD, pool->held_count);
	assert_int_equal(pool->held_count, count_shells(pool, NULL, NULL, POOL_HELD));
}
