/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool for those who use it (serve/pool/pool.h): its life, and requests that come, are given up or run
 * out of time.
 */
#include <errno.h>
#include <stdlib.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/pool/state.h"

int pool_init(struct pool *pool, struct loop *loop, struct timers *timers,
	      const struct pool_limits *limits)
{
	int ret;

	*pool = (struct pool){
		.loop = loop,
		.timers = timers,
		.limits = *limits,
		.spawner = { .child.fd = -1 },
	};
	pool->shells = calloc(limits->shells, sizeof(*pool->shells));
	if (!pool->shells)
		return failf(ENOMEM, "out of memory for %u shells", limits->shells);
	for (unsigned i = 0; i < limits->shells; i++)
		pool->shells[i] = (struct pool_shell){ .pool = pool, .fd = -1 };
	pool_events_init(pool);
	refill_init(pool);
	ret = pool_start_spawner(pool);
	return ret < 0 ? ret : spawner_wait(&pool->spawner);
}

void pool_fini(struct pool *pool)
{
	pool->draining = true;
	for (struct function *f = pool->functions; f; f = f->next)
		pool_fail_waiting(f, "the host ends");
	for (unsigned i = 0; pool->shells && i < pool->limits.shells; i++) {
		struct pool_shell *s = &pool->shells[i];

		if (s->state != POOL_FREE) {
			pool_died(s, "the host ends");
			pool_free(s);
		}
	}
	spawner_stop(&pool->spawner);
	for (struct function *f = pool->functions; f; f = f->next)
		function_remove(pool, f);
	function_sweep(pool);
	timer_clear(pool->timers, &pool->work);
	timer_clear(pool->timers, &pool->tick);
	free(pool->shells);
}

/* --- Requests --- */

/* A request that could not even run in its time is one too many. */
static void pool_timeout(void *opaque)
{
	struct invocation *inv = opaque;
	struct function *f = inv->function;
	struct pool_shell *s = inv->shell;
	const struct invocation_end end = { .outcome = OUTCOME_HOST,
					    .timed_out = s != NULL,
					    .throttled = s == NULL };

	pool_forget(inv);
	if (s)
		pool_kill(s);
	inv->done(inv, &end);
	pool_dispatch(f->pool, f);
}

bool pool_invoke(struct pool *pool, struct invocation *inv)
{
	struct function *f = inv->function;

	pool->last_us = monotonic_us();
	pool_arrived(pool, f);
	if (f->active + f->waiting >= f->config.concurrency + f->config.queue)
		return false;
	inv->id = ++pool->invocations;
	inv->shell = NULL;
	inv->waited = f->active < f->config.concurrency && !pool_pick(inv);
	inv->timer = (struct timer){ .expired = pool_timeout, .opaque = inv };
	timer_set(pool->timers, &inv->timer, inv->deadline_us);
	pool_queue(inv);
	pool_dispatch(pool, f);
	return true;
}

void pool_cancel(struct pool *pool, struct invocation *inv)
{
	struct pool_shell *s = inv->shell;
	struct function *f = inv->function;

	pool_forget(inv);
	if (s)
		pool_kill(s);
	pool_dispatch(pool, f);
}

const char *pool_unable(const struct pool *pool)
{
	if (pool->spawner.child.fd < 0 || !pool->spawner.ready)
		return "the process that makes machines does not run";
	for (const struct function *f = pool->functions; f && pool->unable[0]; f = f->next)
		if (f->version && !f->armed && !f->kept && !f->version->shape->ready)
			return pool->unable;
	return NULL;
}

void pool_drain(struct pool *pool)
{
	pool->draining = true;
	for (struct function *f = pool->functions; f; f = f->next)
		f->target = 0;
	pool_want_work(pool);
}
