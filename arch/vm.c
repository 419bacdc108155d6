/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's life (arch/vm.h): creation in the order that KVM makes cheap, the
 * run loop of every vCPU, pause and resume, and the end.
 */
#include "arch/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/x86_64/layout.h"

/* --- Creation --- */

static int vm_open_kvm(struct vm *vm)
{
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0 && errno == EACCES)
		return failf(EACCES, "/dev/kvm: permission denied; run as a member of the group "
				     "that owns it (usermod -aG kvm USER, then log in again)");
	if (vm->kvm_fd < 0 && errno == ENOENT)
		return failf(ENOENT, "/dev/kvm: not there; load the module (modprobe kvm_intel or "
				     "kvm_amd) and switch virtualization on in the firmware");
	if (vm->kvm_fd < 0)
		return failf(errno, "/dev/kvm: %s", strerror(errno));
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return failf(ENODEV, "/dev/kvm: not KVM API version %d", KVM_API_VERSION);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return failf(errno, "cannot create a VM: %s", strerror(errno));
	return 0;
}

static int vm_set_memory(struct vm *vm)
{
	for (unsigned i = 0; i < vm->memory.region_count; i++) {
		const struct memory_region *r = &vm->memory.regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (uintptr_t)vm->memory.base + r->offset,
		};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return failf(errno, "cannot give KVM %llu MiB of guest memory: %s",
				     (unsigned long long)(r->size >> 20), strerror(errno));
	}
	return 0;
}

/* The VM's ioctl (Linux 5.18): a vCPU's would load the vCPU, 4 us where MSRs trap. */
static int vm_read_tsc_khz(struct vm *vm)
{
	int khz = ioctl(vm->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return failf(ENOTSUP,
			     "this KVM does not say its TSC frequency; Linux 5.18 or later does");
	vm->tsc_khz = (uint32_t)khz;
	return 0;
}

/*
 * KVM fetches a page that is not there in a worker, for writing whatever the guest wants, while
 * the vCPU sleeps. It does not where it cannot make a vCPU sleep. Advice: a failure only makes a
 * trial clone look as if it wrote more.
 */
static void vm_wait_in_place(struct vm *vm)
{
	struct kvm_enable_cap halt = { .cap = KVM_CAP_X86_DISABLE_EXITS,
				       .args = { KVM_X86_DISABLE_EXITS_HLT } };

	(void)ioctl(vm->fd, KVM_ENABLE_CAP, &halt);
}

/*
 * Slots first, split irqchip after: an in-kernel device registered before a slot change makes
 * the change wait for an SRCU grace period (7 ms on Linux 6.18).
 */
static int vm_set_up(struct vm *vm, unsigned vcpu_count)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY;
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS } };
	struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	int ret = vm_open_kvm(vm);

	if (ret < 0 || (ret = vm_set_memory(vm)) < 0)
		return ret;
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS) < 0)
		return failf(errno, "cannot place KVM's private pages: %s", strerror(errno));
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &split) < 0)
		return failf(errno, "this KVM has no split irqchip (Linux 4.4 or later has): %s",
			     strerror(errno));
	/* Without it KVM saves an exception that is pending as one that was injected (Linux 4.20). */
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &payload) < 0)
		return failf(errno, "this KVM cannot save pending exceptions: %s", strerror(errno));
	if (vm->memory.on_demand)
		vm_wait_in_place(vm);
	ret = vm_read_tsc_khz(vm);
	if (ret == 0)
		ret = ioapic_init(&vm->ioapic, vm);
	while (ret == 0 && vm->vcpu_count < vcpu_count) {
		ret = vcpu_create(&vm->vcpus[vm->vcpu_count], vm, vm->vcpu_count);
		if (ret == 0)
			vm->vcpu_count++;
	}
	return ret;
}

int vm_create(struct vm *vm, struct memory *memory, unsigned vcpu_count)
{
	int ret;

	*vm = (struct vm){ .kvm_fd = -1, .fd = -1, .memory = *memory };
	*memory = (struct memory){ .fd = -1, .pagemap_fd = -1 };
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	loop_init(&vm->loop);
	ret = vm_set_up(vm, vcpu_count);
	if (ret < 0)
		vm_destroy(vm);
	return ret;
}

void vm_destroy(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_destroy(&vm->vcpus[i]);
	vm->vcpu_count = 0;
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->fd = vm->kvm_fd = -1;
	memory_destroy(&vm->memory);
	loop_fini(&vm->loop);
}

/* --- Signals, waiting, kicking --- */

void vm_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, VM_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* What a vCPU thread takes: its kicks, and on vCPU 0 what is meant for the process. */
static void vcpu_signals(const struct vcpu *vcpu, sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, VM_KICK_SIGNAL);
	if (vcpu->index)
		return;
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGALRM);
}

static void vm_signal(struct vm *vm, int signal)
{
	if (signal == SIGALRM)
		vm_end(vm, VM_END_TIMEOUT, 0, "the time-out expired before an answer");
	else if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP)
		vm_end(vm, VM_END_SIGNAL, 0, "ended by %s",
		       signal == SIGTERM  ? "SIGTERM"
		       : signal == SIGINT ? "SIGINT"
					  : "SIGHUP");
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

static void vcpu_kick(struct vcpu *vcpu)
{
	if (vcpu->has_thread)
		pthread_kill(vcpu->thread, VM_KICK_SIGNAL);
}

/* Not the one whose exit is being handled: it looks at the machine's state before it goes on. */
static void vm_kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (&vm->vcpus[i] != vm->current)
			vcpu_kick(&vm->vcpus[i]);
}

int vm_poll_add(struct vm *vm, void (*poll)(void *opaque), void *opaque)
{
	if (vm->poll_count == VM_POLLS_MAX)
		return failf(ENOSPC, "too many devices want to be polled");
	vm->polls[vm->poll_count++] = (struct vm_poll){ .poll = poll, .opaque = opaque };
	return 0;
}

void vm_poll(struct vm *vm)
{
	for (unsigned i = 0; i < vm->poll_count; i++)
		vm->polls[i].poll(vm->polls[i].opaque);
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

/* --- The run loop --- */

static void vcpu_handle_exit(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	if (!vm->first_exit_us)
		vm->first_exit_us = monotonic_us();
	vcpu->io_pending = true;
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
	if (vm->state == VM_CREATED)
		vm->state = VM_RUNNING;
	pthread_cond_broadcast(&vm->changed);
	vm_kick_all(vm);
	vm->vcpus[0].thread = pthread_self();
	vm->vcpus[0].has_thread = true;
	pthread_mutex_unlock(&vm->lock);
	vcpu_loop(&vm->vcpus[0]);
	vm->vcpus[0].has_thread = false;
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
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		while (vm->vcpus[i].state != VCPU_STOPPED && vm->state == VM_RUNNING)
			pthread_cond_wait(&vm->changed, &vm->lock);
	if (vm->state == VM_RUNNING)
		vm->state = VM_STOPPED;
	vm->pause_wanted = false;
}

void vm_resume(struct vm *vm)
{
	if (vm->state != VM_STOPPED)
		return;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_clock_paused(&vm->vcpus[i]);
	vm->state = VM_RUNNING;
	vm_kick_all(vm);
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

int vm_end_status(const struct vm_end *end)
{
	switch (end->reason) {
	case VM_END_NONE:
	case VM_END_HOST:
		return 125;
	case VM_END_ANSWER_ERROR:
		return 1;
	case VM_END_DEBUG_EXIT:
		return end->code;
	case VM_END_TIMEOUT:
		return 124;
	case VM_END_CRASH:
		return 126;
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_QUIT:
	case VM_END_SIGNAL:
	case VM_END_ANSWER:
		return 0;
	}
	return 125;
}

void vm_irq(struct vm *vm, unsigned gsi, bool level)
{
	ioapic_set_pin(&vm->ioapic, gsi, level);
}
