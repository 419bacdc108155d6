/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine of two vCPUs, saved and loaded into a new VM. Its vCPUs get each part by a call of its
 * own (arch/x86_64/sync.c), which a machine of one never does: KVM's own calls read back what KVM's
 * own calls had set, and the second vCPU goes on in code that shows its registers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/vm.h"
#include "tests/unit/live_machine.h"

#define VCPUS     2u
#define CODE      0x800000u /* a page of guest memory that nobody uses */
#define STACK     0x802000u
#define MINUTE_US 60000000u
#define FLAGS     0x46u /* parity and zero; interrupts are off */

static char directory[] = "/tmp/virga-vcpus.XXXXXX";
static struct live *m;

/* All of m goes into a snapshot and a new machine comes from it. */
static void save_and_load(const char *name)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	live_save(m, path);
	live_destroy(m);
	m = live_load(path);
	assert_int_equal(m->vm.vcpu_count, VCPUS);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(vcpu_flush(&m->vm.vcpus[i]), 0);
}

/* What vCPU i is given: every register has another value, and none the same on two vCPUs. */
static struct kvm_regs known_regs(unsigned i)
{
	struct kvm_regs regs;

	for (unsigned n = 0; n < sizeof(regs) / 8; n++)
		memset((uint8_t *)&regs + 8 * n, (int)(0x11 + 0x20 * i + n), 8);
	regs.rip = 0x12345678 + i;
	regs.rflags = FLAGS;
	return regs;
}

static void know_events(unsigned i, struct kvm_vcpu_events *events)
{
	events->exception.pending = 1;
	events->exception.nr = 14;
	events->exception.has_error_code = 1;
	events->exception.error_code = 4 + i;
	events->exception_has_payload = 1;
	events->exception_payload = 0xdeadbee000 + i;
	events->nmi.pending = 1;
	events->nmi.masked = 1;
	events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_PAYLOAD;
}

static void set_runnable(int fd)
{
	const struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	assert_int_equal(ioctl(fd, KVM_SET_MP_STATE, &mp), 0);
}

static void test_registers_and_events(void **state)
{
	struct kvm_vcpu_events events, expected_events;
	struct kvm_regs regs, expected;
	struct kvm_mp_state mp;

	(void)state;
	for (unsigned i = 0; i < VCPUS; i++) {
		int fd = m->vm.vcpus[i].fd;

		set_runnable(fd);
		regs = known_regs(i);
		assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
		assert_int_equal(ioctl(fd, KVM_GET_VCPU_EVENTS, &events), 0);
		know_events(i, &events);
		assert_int_equal(ioctl(fd, KVM_SET_VCPU_EVENTS, &events), 0);
	}
	save_and_load("events");
	for (unsigned i = 0; i < VCPUS; i++) {
		int fd = m->vm.vcpus[i].fd;

		assert_int_equal(ioctl(fd, KVM_GET_REGS, &regs), 0);
		expected = known_regs(i);
		assert_memory_equal(&regs, &expected, sizeof(regs));
		assert_int_equal(ioctl(fd, KVM_GET_VCPU_EVENTS, &events), 0);
		expected_events = events;
		know_events(i, &expected_events);
		expected_events.flags = events.flags;
		assert_memory_equal(&events, &expected_events, sizeof(events));
		assert_int_equal(ioctl(fd, KVM_GET_MP_STATE, &mp), 0);
		assert_int_equal(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	}
}

/* The flat 32-bit segments that the boot CPU begins with; the APIC base stays its own. */
static void set_sregs(void)
{
	struct kvm_sregs2 first, second;

	assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_GET_SREGS2, &first), 0);
	assert_int_equal(ioctl(m->vm.vcpus[1].fd, KVM_GET_SREGS2, &second), 0);
	assert_int_equal(first.cs.db, 1);
	first.apic_base = second.apic_base;
	assert_int_equal(ioctl(m->vm.vcpus[1].fd, KVM_SET_SREGS2, &first), 0);
}

/* pushf and pusha leave all registers on the stack, the last of them being EDI. */
static void test_second_goes_on(void **state)
{
	static const uint8_t code[] = { 0x9c, 0x60, 0xf3, 0x90, 0xeb, 0xfc }; /* then pause, jmp */
	const struct kvm_regs regs = {
		.rax = 0xa1a1a1a1,
		.rcx = 0xc2c2c2c2,
		.rdx = 0xd3d3d3d3,
		.rbx = 0xb4b4b4b4,
		.rsp = STACK,
		.rbp = 0xb5b5b5b5,
		.rsi = 0x56565656,
		.rdi = 0xd7d7d7d7,
		.rip = CODE,
		.rflags = FLAGS,
	};
	const uint32_t expected[] = {
		0xd7d7d7d7, 0x56565656, 0xb5b5b5b5, STACK - 4, 0xb4b4b4b4,
		0xd3d3d3d3, 0xc2c2c2c2, 0xa1a1a1a1, FLAGS,
	};
	uint32_t got[sizeof(expected) / sizeof(expected[0])];
	volatile uint32_t *shown;
	uint64_t end_us = monotonic_us() + MINUTE_US;

	(void)state;
	memcpy(memory_at(&m->vm.memory, CODE, sizeof(code)), code, sizeof(code));
	set_sregs();
	set_runnable(m->vm.vcpus[1].fd);
	assert_int_equal(ioctl(m->vm.vcpus[1].fd, KVM_SET_REGS, &regs), 0);
	save_and_load("code");
	shown = memory_at(&m->vm.memory, STACK - sizeof(expected), sizeof(expected));
	assert_int_equal(shown[0], 0);
	assert_int_equal(vm_threads_start(&m->vm), 0);
	live_start(m);
	while (!shown[0] && monotonic_us() < end_us)
		usleep(1000);
	memcpy(got, (const void *)shown, sizeof(got));
	live_end(m);
	m = NULL;
	assert_memory_equal(got, expected, sizeof(expected));
}

static int make_directory(void **state)
{
	(void)state;
	vm_block_signals();
	return mkdtemp(directory) ? 0 : -1;
}

static int boot(void **state)
{
	(void)state;
	m = live_boot_vcpus("build/tests/guest/spin.elf", "", VCPUS);
	return 0;
}

static int end(void **state)
{
	(void)state;
	if (m)
		live_destroy(m);
	return 0;
}

static int remove_all(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers_and_events, boot, end),
		cmocka_unit_test_setup_teardown(test_second_goes_on, boot, end),
	};

	return cmocka_run_group_tests_name("two vCPUs", tests, make_directory, remove_all);
}
