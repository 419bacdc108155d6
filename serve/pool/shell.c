/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells as the front counts them (serve/pool/state.h): their states and lists, and letting them
 * go. The lowest part of the pool: it calls no other.
 */
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/layout.h"
#include "serve/pool/state.h"

static struct pool_shell **pool_list(struct pool_shell *s)
{
	switch (s->state) {
	case POOL_BARE:
		return &s->shape->ready;
	case POOL_ARMED:
		return &s->function->armed;
	case POOL_KEPT:
		return &s->function->kept;
	case POOL_HELD:
		return &s->pool->held;
	default:
		return NULL;
	}
}

/* How many of the state's kind there are, by whoever counts them. */
static void pool_count(struct pool_shell *s, int by)
{
	unsigned *count = NULL;

	switch (s->state) {
	case POOL_BARE:
		count = &s->shape->ready_count;
		break;
	case POOL_ARMED:
		count = &s->function->armed_count;
		break;
	case POOL_KEPT:
		count = &s->function->kept_count;
		break;
	case POOL_HELD:
		count = &s->pool->held_count;
		break;
	case POOL_BUILDING:
		count = s->function ? &s->function->building
			: s->shape  ? &s->shape->building
				    : NULL;
		s->pool->building += (unsigned)by;
		break;
	default:
		break;
	}
	if (count)
		*count += (unsigned)by;
}

void pool_set_state(struct pool_shell *s, enum pool_state state)
{
	struct pool_shell **list = pool_list(s);

	if (list) {
		*(s->previous ? &s->previous->next : list) = s->next;
		if (s->next)
			s->next->previous = s->previous;
		else if (s->state == POOL_HELD)
			s->pool->held_last = s->previous;
	}
	pool_count(s, -1);
	s->state = state;
	s->since_us = monotonic_us();
	pool_count(s, 1);
	s->next = s->previous = NULL;
	list = pool_list(s);
	if (!list)
		return;
	if (state == POOL_HELD) { /* oldest first, the others newest first */
		s->previous = s->pool->held_last;
		*(s->previous ? &s->previous->next : list) = s;
		s->pool->held_last = s;
		return;
	}
	s->next = *list;
	if (s->next)
		s->next->previous = s;
	*list = s;
}

uint64_t pool_memory_of(const struct function_version *version)
{
	return POOL_MACHINE + (version ? version->written_pages * (uint64_t)LAYOUT_PAGE_SIZE : 0);
}

void pool_charge(struct pool_shell *s, uint64_t bytes)
{
	s->pool->memory += bytes - s->memory;
	s->memory = bytes;
}

bool pool_has_memory(const struct pool *pool, uint64_t bytes)
{
	return !pool->limits.memory || pool->memory + bytes <= pool->limits.memory;
}

void pool_want_work(struct pool *pool)
{
	uint64_t now_us = monotonic_us(), at_us = pool->last_us + POOL_QUIET_US;

	if (!pool->since_us)
		pool->since_us = now_us;
	if (!pool->work.place || pool->work.at_us > at_us)
		timer_set(pool->timers, &pool->work, at_us);
}

void pool_let_go(struct pool_shell *s)
{
	timer_clear(s->pool->timers, &s->timer);
	loop_remove(s->pool->loop, s->watch);
	s->watch = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	pool_set_state(s, POOL_GOING);
	timer_set(s->pool->timers, &s->timer, s->since_us + POOL_GO_MS * 1000ull);
}

void pool_kill(struct pool_shell *s)
{
	if (s->state != POOL_GOING)
		pool_let_go(s);
	s->kill_wanted = spawner_kill(&s->pool->spawner, s->id) < 0;
	if (s->kill_wanted) {
		s->pool->orders_wanted = true;
		pool_want_work(s->pool);
	} else
		s->pool->stats.killed++;
}

void pool_hold(struct pool_shell *s)
{
	struct pool *pool = s->pool;

	timer_clear(pool->timers, &s->timer);
	pool_set_state(s, POOL_HELD);
	pool_want_work(pool);
	if (pool->held_count > pool->held_max) /* soon, not before this answer */
		timer_set(pool->timers, &pool->work, monotonic_us());
}

void pool_end_held(struct pool *pool, bool all)
{
	while (pool->held && (all || pool->held_count > pool->held_max / 2))
		pool_let_go(pool->held);
}
