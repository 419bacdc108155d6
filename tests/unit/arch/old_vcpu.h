/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU as version 1 of the section "vcpu" had it: without the MSRs that came with version 2, which
 * one that is loaded from it has as a new vCPU does.
 */
#ifndef VIRGA_TESTS_UNIT_OLD_VCPU_H
#define VIRGA_TESTS_UNIT_OLD_VCPU_H

#include "arch/vcpu.h"

/* Gives one of the later MSRs a value that a new vCPU has not, and appends what version 1 saved. */
void old_vcpu_save(struct vcpu *vcpu, struct blob *out);

/* The test ends unless both have the same in all of the later MSRs. */
void old_vcpu_expect_later(const struct vcpu *loaded, const struct vcpu *fresh);

#endif
