/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary heap of timers by time (arch/base/timers.h). Each timer knows its place, so that any can
 * be taken out.
 */
#include "arch/base/timers.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "arch/base/error.h"

int timers_reserve(struct timers *t, size_t count)
{
	struct timer **heap;

	if (count <= t->size)
		return 0;
	heap = realloc(t->heap, (count + 1) * sizeof(struct timer *));
	if (!heap)
		return failf(ENOMEM, "out of memory for %zu timers", count);
	t->heap = heap;
	t->size = count;
	return 0;
}

void timers_fini(struct timers *t)
{
	free(t->heap);
	*t = (struct timers){ 0 };
}

static void timers_put(struct timers *t, size_t place, struct timer *timer)
{
	t->heap[place] = timer;
	timer->place = place;
}

/* Moves a timer from `place` towards the root as far as it belongs. */
static void timers_up(struct timers *t, size_t place, struct timer *timer)
{
	while (place > 1 && t->heap[place / 2]->at_us > timer->at_us) {
		timers_put(t, place, t->heap[place / 2]);
		place /= 2;
	}
	timers_put(t, place, timer);
}

static void timers_down(struct timers *t, size_t place, struct timer *timer)
{
	while (2 * place <= t->count) {
		size_t child = 2 * place;

		if (child < t->count && t->heap[child + 1]->at_us < t->heap[child]->at_us)
			child++;
		if (t->heap[child]->at_us >= timer->at_us)
			break;
		timers_put(t, place, t->heap[child]);
		place = child;
	}
	timers_put(t, place, timer);
}

void timer_clear(struct timers *t, struct timer *timer)
{
	size_t place = timer->place;
	struct timer *last;

	if (!place)
		return;
	timer->place = 0;
	last = t->heap[t->count--];
	if (last == timer)
		return;
	if (place > 1 && t->heap[place / 2]->at_us > last->at_us)
		timers_up(t, place, last);
	else
		timers_down(t, place, last);
}

void timer_set(struct timers *t, struct timer *timer, uint64_t at_us)
{
	timer_clear(t, timer);
	assert(t->count < t->size);
	timer->at_us = at_us;
	timers_up(t, ++t->count, timer);
}

void timers_run(struct timers *t, uint64_t now_us)
{
	while (t->count && t->heap[1]->at_us <= now_us) {
		struct timer *timer = t->heap[1];

		timer_clear(t, timer);
		timer->expired(timer->opaque);
	}
}

int timers_wait_ms(const struct timers *t, uint64_t now_us)
{
	uint64_t ms;

	if (!t->count)
		return -1;
	if (t->heap[1]->at_us <= now_us)
		return 0;
	ms = (t->heap[1]->at_us - now_us + 999) / 1000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}
