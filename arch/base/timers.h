/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time-outs of the front: a heap of timers that live in the objects they belong to. Setting and
 * clearing cost no system call.
 */
#ifndef VIRGA_ARCH_BASE_TIMERS_H
#define VIRGA_ARCH_BASE_TIMERS_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed, with `expired` and `opaque` filled in: not set. */
struct timer {
	uint64_t at_us; /* monotonic_us() */
	size_t place;   /* in the heap, from 1; 0: not set */
	void (*expired)(void *opaque);
	void *opaque;
};

struct timers {
	struct timer **heap; /* owned */
	size_t count;
	size_t size;
};

/*
 * Makes room for `count` timers in all; timer_set() of one more than was made room for is the
 * caller's error. 0 or -ENOMEM with a sentence.
 */
int timers_reserve(struct timers *t, size_t count);
void timers_fini(struct timers *t);

/* Sets, or sets anew. */
void timer_set(struct timers *t, struct timer *timer, uint64_t at_us);

/* Nothing when it is not set. */
void timer_clear(struct timers *t, struct timer *timer);

/* Calls what has expired, earliest first; a callback may set and clear any timer. */
void timers_run(struct timers *t, uint64_t now_us);

/* Milliseconds until the next one, rounded up; -1: there is none. */
int timers_wait_ms(const struct timers *t, uint64_t now_us);

#endif
