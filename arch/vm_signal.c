/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is interrupted and when (arch/vm.h): the signals of each thread, kicks out of KVM_RUN, waits
 * in the park port, and the end that every vCPU is to notice. Both the run loop (arch/vm.c) and the
 * handlers of exits call it; it calls neither.
 */
#include <stdarg.h>
#include <stdio.h>

#include "arch/base/signals.h"
#include "arch/vm.h"

void vm_block_signals(void)
{
	sigset_t set;

	signals_block_ends();
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, VM_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void vcpu_signals(const struct vcpu *vcpu, sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, VM_KICK_SIGNAL);
	if (vcpu->index)
		return;
	sigaddset(set, SIGALRM);
	if (vcpu->vm->hosted)
		return;
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

static void vcpu_kick(struct vcpu *vcpu)
{
	if (vcpu->has_thread)
		pthread_kill(vcpu->thread, VM_KICK_SIGNAL);
}

void vm_kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (&vm->vcpus[i] != vm->current)
			vcpu_kick(&vm->vcpus[i]);
}

void vm_poll_later(struct vm *vm)
{
	vm->poll_pending = true;
	vcpu_kick(&vm->vcpus[0]);
}

void vm_park(struct vm *vm)
{
	vm->current->parked = true;
}

void vm_wake(struct vm *vm)
{
	vm->wake_pending = true;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i].parked && &vm->vcpus[i] != vm->current)
			vcpu_kick(&vm->vcpus[i]);
}

void vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...)
{
	va_list ap;

	if (vm->state == VM_ENDED)
		return;
	vm->end.reason = reason;
	vm->end.code = code;
	va_start(ap, fmt);
	vsnprintf(vm->end.text, sizeof(vm->end.text), fmt, ap);
	va_end(ap);
	vm->state = VM_ENDED;
	vm_kick_all(vm);
	loop_stop(&vm->loop);
	pthread_cond_broadcast(&vm->changed);
}
