/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate with a bound on what is saved up: so many things a second, and no more at once than
 * those of one second. Starts full.
 */
#ifndef VIRGA_ARCH_BASE_BUCKET_H
#define VIRGA_ARCH_BASE_BUCKET_H

#include <stdint.h>

/* Zeroed: full. rate, things a second, is given at each call and may change. */
struct bucket {
	double used;    /* things, as of then */
	uint64_t at_us; /* monotonic_us() */
};

/* When one may be taken: now_us or later. */
uint64_t bucket_next_us(const struct bucket *b, uint32_t rate, uint64_t now_us);

/* Takes one, whether it may be taken or not. */
void bucket_take(struct bucket *b, uint32_t rate, uint64_t now_us);

#endif
