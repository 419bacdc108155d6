/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When shells are made and ended (serve/pool/pool.h). Both cost a CPU for most of a millisecond, and p99 is
 * decided by what else runs while a request is answered: so they wait until no request came or
 * was answered for POOL_QUIET_US, but not for ever, and for nothing when a request waits.
 *
 * How many armed clones a function should have follows the rate at which its requests come: what
 * comes while a used one is replaced, and some more.
 */
#include <errno.h>
#include <sys/resource.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/pool/state.h"

#define REFILL_TICK_US  100000u
#define REFILL_RISE     0.5       /* of the way to a higher rate, in one tick */
#define REFILL_FALL     0.05      /* to a lower one */
#define REFILL_COVER_S  0.025     /* armed clones are there for the requests of so long */
#define REFILL_KEEP_US  10000000u /* a target is held so long after it was needed */
#define REFILL_RETRY_US 20000u
#define REFILL_PAUSE_US 1000u /* between two looks */
#define REFILL_STILL    0.05  /* requests a second that count as none */

/* --- How many --- */

static unsigned refill_target(const struct function *f)
{
	double wanted = f->config.pool_min + f->rate * REFILL_COVER_S + 0.5;

	return wanted < f->config.pool_max ? (unsigned)wanted : f->config.pool_max;
}

static void refill_function(struct pool *pool, struct function *f, uint64_t now_us)
{
	double seen = f->arrived * (1e6 / REFILL_TICK_US);
	unsigned target;

	f->arrived = 0;
	f->rate += (seen - f->rate) * (seen > f->rate ? REFILL_RISE : REFILL_FALL);
	if (f->rate < REFILL_STILL)
		f->rate = 0;
	target = refill_target(f);
	if (target >= f->target) {
		f->target = target;
		f->used_until_us = now_us + REFILL_KEEP_US;
	} else if (now_us >= f->used_until_us) {
		f->target = target;
	}
	if (f->armed_count + f->building != f->target)
		pool_want_work(pool);
}

static bool refill_busy(const struct function *f)
{
	return f->rate > 0 || f->arrived || f->target > refill_target(f);
}

static void refill_tick(void *opaque)
{
	struct pool *pool = opaque;
	uint64_t now_us = monotonic_us();
	bool again = false;

	for (struct function *f = pool->functions; f; f = f->next) {
		refill_function(pool, f, now_us);
		again |= refill_busy(f);
	}
	if (again)
		timer_set(pool->timers, &pool->tick, now_us + REFILL_TICK_US);
}

void pool_arrived(struct pool *pool, struct function *f)
{
	f->arrived++;
	if (!pool->tick.place)
		timer_set(pool->timers, &pool->tick, pool->last_us + REFILL_TICK_US);
}

/* --- Work --- */

static uint64_t refill_earlier(uint64_t a_us, uint64_t b_us)
{
	return a_us < b_us ? a_us : b_us;
}

static uint64_t refill_later(uint64_t a_us, uint64_t b_us)
{
	return a_us > b_us ? a_us : b_us;
}

/* When the next armed clone of f may be made, as far as the last ones say. */
static uint64_t refill_next_us(const struct function *f, uint64_t now_us)
{
	return refill_later(refill_later(f->refused_until_us, f->retry_us),
			    bucket_next_us(&f->refill, f->config.pool_refill, now_us));
}

/* One armed clone more for f, if it wants one. */
static bool refill_one(struct pool *pool, struct function *f, uint64_t now_us)
{
	if (pool->draining || !f->version || f->armed_count + f->building >= f->target ||
	    now_us < refill_next_us(f, now_us))
		return false;
	if (pool_build(pool, f, NULL) < 0) {
		f->retry_us = now_us + REFILL_RETRY_US;
		return false;
	}
	bucket_take(&f->refill, f->config.pool_refill, now_us);
	bucket_take(&pool->refill, pool->limits.refill, now_us);
	return true;
}

/* One is tried where none is wanted for as long as none could be made: else nothing shows that it can. */
static unsigned refill_bare_target(const struct pool *pool)
{
	return pool->limits.bare ? pool->limits.bare : pool->unable[0] != '\0';
}

static bool refill_bare(struct pool *pool, struct shape *shape, uint64_t now_us)
{
	if (pool->draining || shape->ready_count + shape->building >= refill_bare_target(pool) ||
	    now_us < shape->refused_until_us)
		return false;
	if (pool_build(pool, NULL, shape) < 0) {
		shape->refused_until_us = now_us + REFILL_RETRY_US;
		return false;
	}
	bucket_take(&pool->refill, pool->limits.refill, now_us);
	return true;
}

static bool refill_allowed(const struct pool *pool, uint64_t now_us)
{
	return pool->building < POOL_REFILLS_MAX &&
	       now_us >= bucket_next_us(&pool->refill, pool->limits.refill, now_us);
}

/* Shells for the future, a few at once. Functions take turns. */
static void refill_all(struct pool *pool, uint64_t now_us)
{
	bool more = true;

	while (more) {
		more = false;
		for (struct function *f = pool->functions; f; f = f->next)
			if (refill_allowed(pool, now_us))
				more |= refill_one(pool, f, now_us);
		for (struct shape *s = pool->shapes; s; s = s->next)
			if (refill_allowed(pool, now_us))
				more |= refill_bare(pool, s, now_us);
	}
}

static void refill_retire(struct function *f)
{
	while (f->armed_count > f->target) {
		f->stats.retired++;
		pool_let_go(f->armed);
	}
}

/* When there is something to do next, in a quiet moment; UINT64_MAX: nothing. */
static uint64_t refill_next(const struct pool *pool, uint64_t now_us)
{
	uint64_t refill_us = bucket_next_us(&pool->refill, pool->limits.refill, now_us);
	uint64_t at_us = pool->held_count ? 0 : UINT64_MAX;
	bool room = !pool->draining && pool->building < POOL_REFILLS_MAX;

	for (const struct function *f = pool->functions; f; f = f->next) {
		if (f->armed_count > f->target)
			at_us = 0;
		/* Requests that wait until another try makes sense. */
		if (f->waiting && f->refused_until_us > now_us)
			at_us = refill_earlier(at_us, f->refused_until_us);
		if (room && f->version && f->armed_count + f->building < f->target)
			at_us = refill_earlier(at_us,
					       refill_later(refill_us, refill_next_us(f, now_us)));
	}
	for (const struct shape *s = pool->shapes; s; s = s->next)
		if (room && s->ready_count + s->building < refill_bare_target(pool))
			at_us = refill_earlier(at_us, refill_later(refill_us, s->refused_until_us));
	return at_us;
}

/* Orders that the spawner could not take. */
static bool refill_order_again(struct pool *pool)
{
	struct function_version *next;
	bool again = false;

	for (struct function_version *v = pool->versions; v; v = next) {
		next = v->next;
		if (!v->unwanted)
			continue;
		v->unwanted = false;
		function_version_put(pool, v);
	}
	for (const struct function_version *v = pool->versions; v; v = v->next)
		again |= v->unwanted;
	for (unsigned i = 0; i < pool->limits.shells; i++) {
		if (pool->shells[i].kill_wanted)
			pool_kill(&pool->shells[i]);
		again |= pool->shells[i].kill_wanted;
	}
	return again;
}

/* Nothing can be made without it. When it is to be tried again; UINT64_MAX: it is there. */
static uint64_t refill_spawner(struct pool *pool, uint64_t now_us)
{
	if (pool->spawner.child.fd >= 0)
		return UINT64_MAX;
	if (now_us >= pool->spawner_us + POOL_SPAWNER_US && pool_start_spawner(pool) == 0)
		return UINT64_MAX;
	return pool->spawner_us + POOL_SPAWNER_US;
}

/* Requests that still wait for a shell: each end of one may have made room. */
static void refill_serve(struct pool *pool)
{
	for (struct function *f = pool->functions; f && pool->waiting; f = f->next)
		if (f->waiting)
			pool_dispatch(pool, f);
}

/* What can wait for a quiet moment. */
static void refill_upkeep(struct pool *pool, bool quiet, uint64_t now_us)
{
	pool_end_held(pool, quiet);
	for (struct function *f = pool->functions; f; f = f->next)
		refill_retire(f);
	refill_all(pool, now_us);
	pool->since_us = 0;
}

static void refill_work(void *opaque)
{
	struct pool *pool = opaque;
	uint64_t now_us = monotonic_us(), next_us;
	uint64_t start_us = refill_spawner(pool, now_us);
	bool quiet = !pool->waiting && now_us - pool->last_us >= POOL_QUIET_US;

	pool->orders_wanted = pool->orders_wanted && refill_order_again(pool);
	refill_serve(pool);
	if (quiet || (pool->since_us && now_us - pool->since_us >= POOL_OVERDUE_US))
		refill_upkeep(pool, quiet, now_us);
	else if (pool->held_count > pool->held_max)
		pool_end_held(pool, false);
	function_sweep(pool);
	next_us =
		pool->orders_wanted ? now_us : refill_earlier(start_us, refill_next(pool, now_us));
	if (next_us == UINT64_MAX)
		return;
	if (!pool->since_us)
		pool->since_us = now_us;
	if (next_us < now_us + REFILL_PAUSE_US)
		next_us = now_us + REFILL_PAUSE_US;
	timer_set(pool->timers, &pool->work, next_us);
}

void refill_init(struct pool *pool)
{
	struct rlimit files;

	pool->held_max = POOL_HELD_MAX;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	    files.rlim_cur / POOL_HELD_FILES < POOL_HELD_MAX)
		pool->held_max = (unsigned)(files.rlim_cur / POOL_HELD_FILES);
	pool->work = (struct timer){ .expired = refill_work, .opaque = pool };
	pool->tick = (struct timer){ .expired = refill_tick, .opaque = pool };
}
