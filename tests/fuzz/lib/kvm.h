/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM that keeps nothing, for targets that say `wrap: ioctl`: it has a short CPUID table and a few
 * MSRs, takes what it is given and looks at what would be an error of virga's whatever a file says.
 */
#ifndef VIRGA_TESTS_FUZZ_KVM_H
#define VIRGA_TESTS_FUZZ_KVM_H

#include <stdint.h>

#include "arch/vm.h"

/* An MSR that it refuses to set; 0: none. */
extern uint32_t kvm_refused_msr;

/*
 * A machine of that KVM around memory (moved into vm), without devices. vm_fake_destroy() ends it
 * and the memory.
 */
void vm_fake_create(struct vm *vm, struct memory *memory, unsigned vcpu_count);
void vm_fake_destroy(struct vm *vm);

#endif
