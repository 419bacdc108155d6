/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's life (arch/vm.h): the run loop of every vCPU, pause and resume, and the end. How it
 * is made: arch/vm_create.c.
 */
#include "arch/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

/* --- Signals and polls --- */

static void vm_signal(struct vm *vm, int signal)
{
	if (signal == SIGALRM)
		vm_end(vm, VM_END_TIMEOUT, 0, "the time-out expired before an answer");
	else if (signal_name(signal))
		vm_end(vm, VM_END_SIGNAL, 0, "ended by %s", signal_name(signal));
}

/* Takes every signal that is pending for this vCPU; with `wait` sleeps for the first one. */
static void vcpu_take_signals(struct vcpu *vcpu, bool wait)
{
	static const struct timespec now = { 0, 0 };
	struct vm *vm = vcpu->vm;
	sigset_t set;
	int signal = 0;

	vcpu_signals(vcpu, &set);
	if (wait) {
		pthread_mutex_unlock(&vm->lock);
		signal = sigwaitinfo(&set, NULL);
		pthread_mutex_lock(&vm->lock);
	}
	for (; signal >= 0; signal = sigtimedwait(&set, NULL, &now))
		vm_signal(vm, signal);
}

void vm_poll_add(struct vm *vm, struct vm_poll *poll)
{
	struct vm_poll **at = &vm->polls;

	while (*at)
		at = &(*at)->next;
	poll->next = NULL;
	*at = poll;
}

void vm_poll(struct vm *vm)
{
	for (const struct vm_poll *p = vm->polls; p; p = p->next)
		p->poll(p->opaque);
}

/* --- The run loop --- */

static void vcpu_handle_exit(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	if (!vm->first_exit_us)
		vm->first_exit_us = monotonic_us();
	vcpu->io_pending = true;
	vcpu->clock_told = false;
	vm->current = vcpu;
	vcpu_exit(vcpu);
	vm->current = NULL;
}

/* One KVM_RUN and what it asks for. VM lock held, released while the guest runs. */
static void vcpu_step(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	int ret, err;

	vcpu->fresh = vcpu->tsc_known = false;
	pthread_mutex_unlock(&vm->lock);
	ret = ioctl(vcpu->fd, KVM_RUN, 0);
	err = errno;
	if (ret == 0)
		vcpu_brake(vcpu);
	pthread_mutex_lock(&vm->lock);
	if (ret == 0) {
		vcpu_handle_exit(vcpu);
	} else if (vcpu_refused(vcpu, err)) {
		vm_end(vm, VM_END_HOST, 0, "%s", error_text());
	} else if (err == EINTR || err == EAGAIN) {
		vcpu->io_pending = false;
		vcpu_take_signals(vcpu, false);
	} else {
		vcpu_dump(vcpu);
		vm_end(vm, err == EFAULT ? VM_END_HOST : VM_END_CRASH, 0,
		       err == EFAULT ? "guest memory cannot be read: its backing file was cut "
				       "short, or the host is out of memory"
				     : "KVM_RUN failed: %s",
		       strerror(err));
	}
}

/*
 * Brings the vCPU to an instruction boundary: an exit's I/O is only complete in the saved
 * state once KVM_RUN has been entered again, and that may ask for the next piece of it. A parked
 * read completes with the value it has, a spurious wake-up.
 */
static void vcpu_complete_io(struct vcpu *vcpu)
{
	vcpu->parked = false;
	vcpu->run->immediate_exit = 1;
	while (vcpu->io_pending && vcpu->vm->state != VM_ENDED) {
		vcpu_step(vcpu);
		vcpu->parked = false;
	}
	vcpu->run->immediate_exit = 0;
}

static void vcpu_loop(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->lock);
	while (vm->state != VM_ENDED) {
		if (vm->pause_wanted || vm->state != VM_RUNNING) {
			vcpu_complete_io(vcpu);
			vcpu->state = VCPU_STOPPED;
			pthread_cond_broadcast(&vm->changed);
			if (vm->held && vcpu->index == 0)
				break;
			vcpu_take_signals(vcpu, vm->state != VM_ENDED);
			continue;
		}
		vcpu->state = VCPU_RUNNING;
		if (vm->poll_pending) {
			vm->poll_pending = false;
			vm_poll(vm);
		}
		if (vcpu->parked && !vm->wake_pending) {
			vcpu_take_signals(vcpu, true);
			continue;
		}
		if (vcpu->parked)
			vm->wake_pending = vcpu->parked = false;
		vcpu_step(vcpu);
	}
	vcpu->state = VCPU_STOPPED;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

static void *vcpu_thread(void *opaque)
{
	vcpu_loop(opaque);
	return NULL;
}

static void *vm_loop_thread(void *opaque)
{
	struct vm *vm = opaque;
	int ret = loop_run(&vm->loop, &vm->lock);

	if (ret < 0) {
		pthread_mutex_lock(&vm->lock);
		vm_end(vm, VM_END_HOST, 0, "the event loop failed: %s", strerror(-ret));
		pthread_mutex_unlock(&vm->lock);
	}
	return NULL;
}

int vm_threads_start(struct vm *vm)
{
	int err = 0;

	for (unsigned i = 1; i < vm->vcpu_count && !err; i++) {
		err = pthread_create(&vm->vcpus[i].thread, NULL, vcpu_thread, &vm->vcpus[i]);
		vm->vcpus[i].has_thread = !err;
	}
	if (!err && vm->loop.count) {
		err = pthread_create(&vm->loop_thread, NULL, vm_loop_thread, vm);
		vm->has_loop_thread = !err;
	}
	return err ? failf(err, "cannot start a thread: %s", strerror(err)) : 0;
}

/* The rest of a pause: every vCPU was told. VM lock held, released while waiting. */
static void vm_wait_stopped(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		while (vm->vcpus[i].state != VCPU_STOPPED && vm->state == VM_RUNNING)
			pthread_cond_wait(&vm->changed, &vm->lock);
	if (vm->state == VM_RUNNING)
		vm->state = VM_STOPPED;
	vm->pause_wanted = false;
}

static void vm_threads_join(struct vm *vm)
{
	for (unsigned i = 1; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i].has_thread)
			pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].has_thread = false;
	}
	if (vm->has_loop_thread)
		pthread_join(vm->loop_thread, NULL);
	vm->has_loop_thread = false;
}

enum vm_end_reason vm_run(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->held)
		vm_resume(vm);
	vm->held = false;
	if (vm->state == VM_CREATED)
		vm->state = VM_RUNNING;
	pthread_cond_broadcast(&vm->changed);
	vm_kick_all(vm);
	vm->vcpus[0].thread = pthread_self();
	vm->vcpus[0].has_thread = true;
	pthread_mutex_unlock(&vm->lock);
	vcpu_loop(&vm->vcpus[0]);
	pthread_mutex_lock(&vm->lock);
	vm->vcpus[0].has_thread = false;
	if (vm->held)
		vm_wait_stopped(vm);
	pthread_mutex_unlock(&vm->lock);
	if (vm->state == VM_ENDED)
		vm_threads_join(vm);
	return vm->end.reason;
}

/* --- Pause, resume, end --- */

void vm_pause(struct vm *vm)
{
	while (vm->state == VM_CREATED)
		pthread_cond_wait(&vm->changed, &vm->lock);
	if (vm->state != VM_RUNNING)
		return;
	vm->pause_wanted = true;
	vm_kick_all(vm);
	vm_wait_stopped(vm);
}

void vm_hold(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	vm->held = vm->pause_wanted = true;
	vm_kick_all(vm);
}

void vm_resume(struct vm *vm)
{
	if (vm->state != VM_STOPPED)
		return;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (!vm->vcpus[i].clock_told)
			vcpu_clock_paused(&vm->vcpus[i]);
	vm->state = VM_RUNNING;
	vm_kick_all(vm);
}

void vm_forget(struct vm *vm)
{
	vm->wake_pending = vm->poll_pending = false;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vm->vcpus[i].parked = false;
}

int vm_irq_want(struct vm *vm, unsigned gsi, const char *device)
{
	return irqchip_want(vm->irqchip, gsi, device);
}

void vm_irq(struct vm *vm, unsigned gsi, bool level)
{
	irqchip_set_pin(vm->irqchip, gsi, level);
}
