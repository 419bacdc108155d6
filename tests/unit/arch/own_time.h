/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time as the test has it, for programs that wrap monotonic_us: nothing is waited for.
 */
#ifndef VIRGA_TESTS_UNIT_OWN_TIME_H
#define VIRGA_TESTS_UNIT_OWN_TIME_H

#include <stdint.h>

extern uint64_t own_time_us;

#endif
