/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of durations: four buckets to each doubling, from 10 us to more than a
 * minute. Plain data; adding costs no call.
 */
#ifndef VIRGA_ARCH_BASE_HISTOGRAM_H
#define VIRGA_ARCH_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 96u /* the last one: longer than all */

struct histogram {
	uint64_t count;
	uint64_t sum_us;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t us);
void histogram_merge(struct histogram *h, const struct histogram *other);

/* The upper end of a bucket, in us; of the last UINT64_MAX. */
uint64_t histogram_limit_us(unsigned bucket);

/*
 * The duration that `permille` of all do not exceed, as the upper end of its bucket (of one in the
 * last: of the one before); 0 when empty.
 */
uint64_t histogram_quantile_us(const struct histogram *h, unsigned permille);

#endif
