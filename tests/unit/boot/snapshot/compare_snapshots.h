/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two snapshots that should be of one machine at one moment, section by section and, in a vCPU, part
 * by part. Running counters are excepted: TSC, kvmclock and the local APIC timer's count may have
 * advanced, by no more than the gap, and never back.
 */
#ifndef VIRGA_TESTS_UNIT_COMPARE_SNAPSHOTS_H
#define VIRGA_TESTS_UNIT_COMPARE_SNAPSHOTS_H

#include "boot/snapshot/snapshot.h"

/* Fails the test with the first thing that differs. */
void compare_snapshots(const struct snapshot *a, const struct snapshot *b, uint64_t gap_us);

#endif
