/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buckets of a histogram (arch/base/histogram.h): bucket b ends at 10 us * 2^(b/4), the quarters of a
 * doubling in equal steps.
 */
#include "arch/base/histogram.h"

#define HISTOGRAM_FIRST_US 10ull
#define HISTOGRAM_STEPS    4u

uint64_t histogram_limit_us(unsigned bucket)
{
	if (bucket >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return (HISTOGRAM_FIRST_US * (HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS)
		<< bucket / HISTOGRAM_STEPS) /
	       HISTOGRAM_STEPS;
}

static unsigned histogram_bucket(uint64_t us)
{
	unsigned low = 0, high = HISTOGRAM_BUCKETS - 1;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (us <= histogram_limit_us(middle))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void histogram_add(struct histogram *h, uint64_t us)
{
	h->count++;
	h->sum_us += us;
	h->buckets[histogram_bucket(us)]++;
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
	h->count += other->count;
	h->sum_us += other->sum_us;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] += other->buckets[i];
}

uint64_t histogram_quantile_us(const struct histogram *h, unsigned permille)
{
	uint64_t wanted = (h->count * permille + 999) / 1000, seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->count; i++) {
		seen += h->buckets[i];
		if (seen >= wanted)
			return histogram_limit_us(i < HISTOGRAM_BUCKETS - 1 ? i : i - 1);
	}
	return 0;
}
