/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/arch/own_time.h.
 */
#include "tests/unit/arch/own_time.h"

uint64_t own_time_us = 1000000000;

uint64_t __wrap_monotonic_us(void);
uint64_t __wrap_monotonic_us(void)
{
	return own_time_us;
}
