/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/arch/vm_calls.h.
 */
#include "tests/unit/arch/vm_calls.h"

struct vm_calls vm_calls;

void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level);
void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level)
{
	(void)vm;
	vm_calls.edges += level && !vm_calls.level;
	vm_calls.level = level;
	vm_calls.gsi = gsi;
}

int __wrap_vm_irq_want(struct vm *vm, unsigned gsi, const char *device);
int __wrap_vm_irq_want(struct vm *vm, unsigned gsi, const char *device)
{
	(void)vm;
	(void)device;
	vm_calls.wanted = gsi;
	return 0;
}

void __wrap_vm_wake(struct vm *vm);
void __wrap_vm_wake(struct vm *vm)
{
	vm->wake_pending = true;
	vm_calls.wakes++;
}

void __wrap_vm_poll_add(struct vm *vm, struct vm_poll *poll);
void __wrap_vm_poll_add(struct vm *vm, struct vm_poll *poll)
{
	poll->next = vm->polls;
	vm->polls = poll;
}
