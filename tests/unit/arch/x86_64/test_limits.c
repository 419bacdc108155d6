/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest is kept from where the KVM here cannot do it: performance counters off, exits for bus
 * locks and for a guest that lets nothing interrupt it. This KVM's part in it is played; tests/unit/
 * arch/x86_64/test_msr.c has the filter of MSRs, which every KVM can.
 *
 * wrap: ioctl
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/vm.h"

#define MIB      (1ull << 20)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A capability, what KVM_CHECK_EXTENSION says of it, and what it is to be switched on with. */
struct cap {
	uint32_t cap;
	int offered;
	uint64_t enabled; /* 0: not yet */
	bool refuse;
};

static struct cap caps[3];
static bool vcpus_made, slots_made, filtered, late;

/* What the next KVM_RUNs are: each fills the run page; the last powers the machine off. */
static void (*exits[8])(struct kvm_run *run);
static unsigned exits_done;
static uint8_t msr_error;
static uint64_t first_run_us; /* when KVM_RUN was first called */
static struct vm vm;

static int play_cap(struct cap *cap, unsigned long request, const struct kvm_enable_cap *enable)
{
	if (request == KVM_CHECK_EXTENSION)
		return cap->offered;
	late |= vcpus_made;
	cap->enabled = enable->args[0];
	errno = EINVAL;
	return cap->refuse ? -1 : 0;
}

static int play_run(void)
{
	struct kvm_run *run = vm.vcpus[0].run;

	if (!first_run_us)
		first_run_us = monotonic_us();
	msr_error = run->msr.error;
	run->flags = 0;
	if (exits[exits_done]) {
		exits[exits_done++](run);
		return 0;
	}
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
	return 0;
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	for (size_t i = 0; i < COUNT(caps); i++) {
		if ((request == KVM_CHECK_EXTENSION && (uintptr_t)arg == caps[i].cap) ||
		    (request == KVM_ENABLE_CAP &&
		     ((struct kvm_enable_cap *)arg)->cap == caps[i].cap))
			return play_cap(&caps[i], request, arg);
	}
	if (request == KVM_RUN)
		return play_run();
	late |= request == KVM_X86_SET_MSR_FILTER && slots_made;
	filtered |= request == KVM_X86_SET_MSR_FILTER;
	slots_made |= request == KVM_SET_USER_MEMORY_REGION;
	vcpus_made |= request == KVM_CREATE_VCPU;
	return __real_ioctl(fd, request, arg);
}

static int make(bool saved)
{
	struct memory memory;

	assert_int_equal(memory_create(&memory, 16 * MIB), 0);
	return vm_create(&vm, &memory, 1, saved);
}

static int set_up(void **state)
{
	(void)state;
	caps[0] = (struct cap){ .cap = KVM_CAP_PMU_CAPABILITY, .offered = KVM_PMU_CAP_DISABLE };
	caps[1] = (struct cap){ .cap = KVM_CAP_X86_BUS_LOCK_EXIT, .offered = 3 };
	caps[2] = (struct cap){ .cap = KVM_CAP_X86_NOTIFY_VMEXIT, .offered = 3 };
	memset(exits, 0, sizeof(exits));
	exits_done = 0;
	first_run_us = 0;
	vcpus_made = slots_made = filtered = late = false;
	return 0;
}

static void test_offered(void **state)
{
	(void)state;
	assert_int_equal(make(true), 0);
	assert_int_equal(caps[0].enabled, KVM_PMU_CAP_DISABLE);
	assert_int_equal(caps[1].enabled, KVM_BUS_LOCK_DETECTION_EXIT);
	assert_int_equal(caps[2].enabled, KVM_X86_NOTIFY_VMEXIT_ENABLED);
	assert_true(filtered);
	assert_false(late);
	vm_destroy(&vm);
}

/* One that is not saved is spared the filter. */
static void test_not_saved(void **state)
{
	(void)state;
	assert_int_equal(make(false), 0);
	assert_int_equal(caps[1].enabled, KVM_BUS_LOCK_DETECTION_EXIT);
	assert_false(filtered);
	vm_destroy(&vm);
}

static void test_not_offered(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(caps); i++)
		caps[i].offered = 0;
	caps[1].offered = KVM_BUS_LOCK_DETECTION_OFF;
	assert_int_equal(make(true), 0);
	for (size_t i = 0; i < COUNT(caps); i++)
		assert_int_equal(caps[i].enabled, 0);
	vm_destroy(&vm);
}

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(caps); i++) {
		caps[i].refuse = true;
		assert_int_equal(make(true), -EINVAL);
		assert_non_null(strstr(error_text(), "which it offers"));
		caps[i].refuse = false;
	}
}

static void exit_bus_lock(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_X86_BUS_LOCK;
	run->flags = KVM_RUN_X86_BUS_LOCK;
}

/* Beside an exit for another reason. */
static void exit_bus_lock_and_hlt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTR;
	run->flags = KVM_RUN_X86_BUS_LOCK;
}

static void exit_notify(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_NOTIFY;
	run->notify.flags = 0;
}

static void exit_notify_lost(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_NOTIFY;
	run->notify.flags = KVM_NOTIFY_CONTEXT_INVALID;
}

static void exit_wrmsr(struct kvm_run *run, uint32_t index, uint8_t error)
{
	run->exit_reason = KVM_EXIT_X86_WRMSR;
	run->msr.index = index;
	run->msr.error = error;
}

static void exit_wrmsr_microcode(struct kvm_run *run)
{
	exit_wrmsr(run, 0x79, 1);
}

static void exit_wrmsr_unknown(struct kvm_run *run)
{
	exit_wrmsr(run, 0x2345, 0);
}

static enum vm_end_reason run(void)
{
	assert_int_equal(make(true), 0);
	assert_int_equal(vm_threads_start(&vm), 0);
	return vm_run(&vm);
}

/* The guest goes on, later. */
static void test_bus_locks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		exits[i] = i % 2 ? exit_bus_lock : exit_bus_lock_and_hlt;
	assert_int_equal(run(), VM_END_POWEROFF);
	assert_true(monotonic_us() - first_run_us >= 4000);
	assert_int_equal(exits_done, 4);
	vm_destroy(&vm);
}

static void test_notify(void **state)
{
	(void)state;
	exits[0] = exits[1] = exit_notify;
	assert_int_equal(run(), VM_END_POWEROFF);
	vm_destroy(&vm);
	exits_done = 0;
	exits[1] = exit_notify_lost;
	assert_int_equal(run(), VM_END_CRASH);
	assert_string_equal(vm.end.text,
			    "the guest kept vCPU 0 from the host, and its registers are lost");
	vm_destroy(&vm);
}

/* A write that is forbidden is a fault, but for what Linux writes and KVM forgets. */
static void test_forbidden_writes(void **state)
{
	(void)state;
	exits[0] = exit_wrmsr_microcode;
	assert_int_equal(run(), VM_END_POWEROFF);
	assert_int_equal(msr_error, 0);
	vm_destroy(&vm);
	exits_done = 0;
	exits[0] = exit_wrmsr_unknown;
	assert_int_equal(run(), VM_END_POWEROFF);
	assert_int_equal(msr_error, 1);
	vm_destroy(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_offered, set_up),
		cmocka_unit_test_setup(test_not_saved, set_up),
		cmocka_unit_test_setup(test_not_offered, set_up),
		cmocka_unit_test_setup(test_refused, set_up),
		cmocka_unit_test_setup(test_bus_locks, set_up),
		cmocka_unit_test_setup(test_notify, set_up),
		cmocka_unit_test_setup(test_forbidden_writes, set_up),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
