/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CLOCK_MONOTONIC, which every time-out and every figure goes by. Any thread.
 */
#ifndef VIRGA_ARCH_BASE_CLOCK_H
#define VIRGA_ARCH_BASE_CLOCK_H

#include <stdint.h>

/* In nanoseconds. */
uint64_t monotonic_ns(void);

/* In microseconds. */
uint64_t monotonic_us(void);

#endif
