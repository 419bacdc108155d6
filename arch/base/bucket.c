/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rates (arch/base/bucket.h): what was used drains at the rate.
 */
#include "arch/base/bucket.h"

static double bucket_used(const struct bucket *b, uint32_t rate, uint64_t now_us)
{
	double used = b->used - (double)(now_us - b->at_us) * rate / 1e6;

	return used > 0 ? used : 0;
}

uint64_t bucket_next_us(const struct bucket *b, uint32_t rate, uint64_t now_us)
{
	double over = bucket_used(b, rate, now_us) - (rate - 1.0);

	return over <= 0 ? now_us : now_us + 1 + (uint64_t)(over * 1e6 / rate);
}

void bucket_take(struct bucket *b, uint32_t rate, uint64_t now_us)
{
	b->used = bucket_used(b, rate, now_us) + 1;
	b->at_us = now_us;
}
