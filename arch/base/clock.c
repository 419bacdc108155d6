/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's monotonic clock (arch/base/clock.h).
 */
#include "arch/base/clock.h"

#include <time.h>

uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t monotonic_us(void)
{
	return monotonic_ns() / 1000u;
}
