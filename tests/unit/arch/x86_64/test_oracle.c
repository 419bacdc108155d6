/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine has, said by KVM. Known values are set by KVM's own calls, the machine is saved and
 * loaded into a new VM by virga, and KVM's own calls read the values back: what virga drops on both
 * sides, which a comparison of two snapshots cannot see, is missed here. Each part has its test.
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
#include <x86intrin.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "tests/unit/live_machine.h"

#define COUNT(a)         (sizeof(a) / sizeof((a)[0]))
#define MINUTE_NS        60000000000ull
#define CLOCK_NS         0x123456789abcull
#define TSC              0x0004321012345678ull
#define TSC_DEADLINE     0x7654321076543210ull
#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_KVMCLOCK     0x4b564d01u
#define PVCLOCK          0x800000u /* a page of guest memory that nobody uses */
#define PVCLOCK_FLAGS    29u       /* in struct pvclock_vcpu_time_info */
#define GUEST_STOPPED    2u

#define LAPIC_TPR        0x80u
#define LAPIC_LDR        0xd0u
#define LAPIC_SVR        0xf0u
#define LAPIC_ISR        0x100u
#define LAPIC_IRR        0x200u
#define LAPIC_LVTT       0x320u
#define LAPIC_LVT0       0x350u
#define LAPIC_LVT1       0x360u
#define LAPIC_TDCR       0x3e0u

static char directory[] = "/tmp/virga-oracle.XXXXXX";
static char path[64];
static struct live *m;
static int fd;         /* of the vCPU of m */
static bool tsc_obeys; /* there are KVMs whose guests read the host's */

struct msr {
	uint32_t index;
	uint64_t value;
};

/* What a guest may set, of every kind that the list has. */
static const struct msr msrs[] = {
	{ 0x174, 0x11 },
	{ 0x175, 0x11111111 },
	{ 0x176, 0x22222222 },
	{ 0x17a, 0x4 },
	{ 0x1a0, 0x1800 },
	{ 0x200, 0x80000006 },
	{ 0x201, 0xc0000800 },
	{ 0x20e, 0x90000004 },
	{ 0x20f, 0xf0000800 },
	{ 0x250, 0x0606060606060606 },
	{ 0x258, 0x0505050505050505 },
	{ 0x259, 0x0404040404040404 },
	{ 0x268, 0x0101010101010101 },
	{ 0x26f, 0x0606050504040101 },
	{ 0x277, 0x0007010600070406 },
	{ 0x2ff, 0xc04 },
	{ 0x402, 0x3333333333333333 },
	{ 0x403, 0x4444444444444444 },
	{ 0x47d, 0x5555555555555555 },
	{ 0x47e, 0x6666666666666666 },
	{ 0x47f, 0x7777777777777777 },
	{ 0x11, 0x801000 },
	{ 0x12, PVCLOCK | 1 },
	{ 0x4b564d00, 0x801000 },
	{ 0x4b564d01, PVCLOCK | 1 },
	{ 0x4b564d04, 0x803000 },
	{ 0xc0000081, 0x0023001000000000 },
	{ 0xc0000082, 0xffffffff81000000 },
	{ 0xc0000083, 0xffffffff82000000 },
	{ 0xc0000084, 0x47700 },
	{ 0xc0000102, 0xffff888000000000 },
	{ 0xc0000103, 0x00001001 },
	{ 0xc0010015, 0x40000 },
	{ 0xc0010140, 0x5 },
	{ 0xc0010141, 0x1f },
};

static bool taken[COUNT(msrs)]; /* some belong to features that not every CPU has */

static int msr_call(unsigned long request, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry = { .index = index, .data = *value } };
	int n = ioctl(fd, request, &one);

	*value = one.entry.data;
	return n;
}

static uint64_t get_msr(uint32_t index)
{
	uint64_t value = 0;

	assert_int_equal(msr_call(KVM_GET_MSRS, index, &value), 1);
	return value;
}

static void set_msr(uint32_t index, uint64_t value)
{
	if (msr_call(KVM_SET_MSRS, index, &value) != 1)
		fail_msg("KVM does not take MSR 0x%x", index);
}

/* Sets the TSC, or leaves it where it is. */
static void set_tsc(void)
{
	uint64_t offset = TSC - __rdtsc();
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	assert_int_equal(ioctl(fd, KVM_SET_DEVICE_ATTR, &attr), 0);
	tsc_obeys = get_msr(MSR_TSC) - TSC < MINUTE_NS / 1000000 * m->vm.tsc_khz;
	offset = 0;
	if (!tsc_obeys)
		assert_int_equal(ioctl(fd, KVM_SET_DEVICE_ATTR, &attr), 0);
}

static struct kvm_regs known_regs(void)
{
	struct kvm_regs regs;

	for (unsigned i = 0; i < sizeof(regs) / 8; i++)
		memset((uint8_t *)&regs + 8 * i, (int)(0x11 + i), 8);
	regs.rip = 0x123456789abc;
	regs.rflags = 0x246;
	return regs;
}

static struct kvm_segment known_segment(uint64_t base, uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.base = base,
		.limit = 0xfffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = type != 2 && type != 11,
	};
}

static void know_sregs(struct kvm_sregs2 *s)
{
	s->cs = known_segment(0, 0x10, 11);
	s->cs.l = s->cs.g = 1;
	s->cs.limit = 0xffffffff;
	s->ds = known_segment(0x1000, 0x18, 3);
	s->es = known_segment(0x2000, 0x20, 3);
	s->ss = known_segment(0, 0x28, 3);
	s->fs = known_segment(0x7fff12345000, 0x30, 3);
	s->gs = known_segment(0xffff888012345000, 0x38, 3);
	s->ldt = known_segment(0x40000, 0x40, 2);
	s->tr = known_segment(0x50000, 0x48, 11);
	s->gdt = (struct kvm_dtable){ .base = 0x60000, .limit = 0x7f };
	s->idt = (struct kvm_dtable){ .base = 0x70000, .limit = 0xfff };
	s->cr0 = 0x80050033;
	s->cr2 = 0xdeadbeef000;
	s->cr3 = 0x5000;
	s->cr4 = 0x406a0; /* OSXSAVE, OSXMMEXCPT, OSFXSR, PGE, PAE */
	s->cr8 = 9;
	s->efer = 0xd01; /* NX, LMA, LME, SCE */
}

static const struct kvm_debugregs known_debugregs = {
	.db = { 0x1000, 0x2000, 0x3000, 0x4000 },
	.dr6 = 0xffff0ff5,
	.dr7 = 0x0d050755,
};

static void know_xsave(uint8_t *area)
{
	const uint16_t fcw = 0x27f;
	const uint32_t mxcsr = 0x3f80;

	memcpy(area, &fcw, sizeof(fcw));
	memcpy(area + 24, &mxcsr, sizeof(mxcsr));
	for (unsigned i = 0; i < 8; i++) /* x87 */
		memset(area + 32 + 16 * i, (int)(0x20 + i), 10);
	for (unsigned i = 160; i < 416; i++) /* xmm0-15 */
		area[i] = (uint8_t)(i * 7);
	for (unsigned i = 576; i < 832; i++) /* the upper halves of ymm0-15 */
		area[i] = (uint8_t)(i * 13);
	area[512] = 7; /* XSTATE_BV: x87, SSE, AVX */
}

static void know_lapic(struct kvm_lapic_state *lapic)
{
	static const struct {
		uint32_t at, value;
	} values[] = {
		{ LAPIC_TPR, 0x90 },
		{ LAPIC_LDR, 0x04000000 },
		{ LAPIC_SVR, 0x1fe },
		{ LAPIC_ISR + 0x20, 0x00020000 }, /* 0x51 */
		{ LAPIC_IRR + 0x30, 0x00000004 }, /* 0x62 */
		{ LAPIC_LVTT, 0x400d1 },          /* TSC deadline, 0xd1 */
		{ LAPIC_LVT0, 0x10700 },
		{ LAPIC_LVT1, 0x400 },
		{ LAPIC_TDCR, 0xb },
	};

	for (size_t i = 0; i < COUNT(values); i++)
		memcpy(&lapic->regs[values[i].at], &values[i].value, sizeof(values[i].value));
}

static void know_events(struct kvm_vcpu_events *events)
{
	events->exception.pending = 1;
	events->exception.nr = 14;
	events->exception.has_error_code = 1;
	events->exception.error_code = 6;
	events->exception_has_payload = 1;
	events->exception_payload = 0xdeadbeef123;
	events->interrupt.shadow = 1;
	events->nmi.pending = 1;
	events->nmi.masked = 1;
	events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
			KVM_VCPUEVENT_VALID_PAYLOAD;
}

/* Gives the machine all of it, in an order that KVM takes. */
static void set_all(void)
{
	const struct kvm_regs regs = known_regs();
	const struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 7 } } };
	const struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };
	const struct kvm_clock_data clock = { .clock = CLOCK_NS };
	struct kvm_sregs2 sregs;
	struct kvm_xsave xsave = { 0 };
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	unsigned refused = 0;

	assert_int_equal(ioctl(m->vm.fd, KVM_SET_CLOCK, &clock), 0);
	assert_int_equal(ioctl(fd, KVM_GET_SREGS2, &sregs), 0);
	know_sregs(&sregs);
	assert_int_equal(ioctl(fd, KVM_SET_SREGS2, &sregs), 0);
	assert_int_equal(ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	know_lapic(&lapic);
	assert_int_equal(ioctl(fd, KVM_SET_LAPIC, &lapic), 0);
	set_tsc();
	for (size_t i = 0; i < COUNT(msrs); i++) {
		uint64_t value = msrs[i].value;

		taken[i] = msr_call(KVM_SET_MSRS, msrs[i].index, &value) == 1;
		refused += !taken[i];
	}
	assert_in_range(refused, 0, 3); /* TSC_AUX, OSVW */
	set_msr(MSR_TSC_DEADLINE, TSC_DEADLINE);
	assert_int_equal(ioctl(fd, KVM_SET_XCRS, &xcrs), 0);
	assert_int_equal(ioctl(fd, KVM_GET_XSAVE, &xsave), 0);
	know_xsave((uint8_t *)xsave.region);
	assert_int_equal(ioctl(fd, KVM_SET_XSAVE, &xsave), 0);
	assert_int_equal(ioctl(fd, KVM_SET_DEBUGREGS, &known_debugregs), 0);
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(ioctl(fd, KVM_GET_VCPU_EVENTS, &events), 0);
	know_events(&events);
	assert_int_equal(ioctl(fd, KVM_SET_VCPU_EVENTS, &events), 0);
	assert_int_equal(ioctl(fd, KVM_SET_MP_STATE, &mp), 0);
}

static void test_regs(void **state)
{
	const struct kvm_regs expected = known_regs();
	struct kvm_regs regs;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_REGS, &regs), 0);
	assert_memory_equal(&regs, &expected, sizeof(regs));
}

static void test_sregs(void **state)
{
	struct kvm_sregs2 sregs, expected;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_SREGS2, &sregs), 0);
	expected = sregs;
	know_sregs(&expected);
	assert_memory_equal(&sregs, &expected, sizeof(sregs));
}

static void test_xcr0(void **state)
{
	struct kvm_xcrs xcrs;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_XCRS, &xcrs), 0);
	assert_int_equal(xcrs.nr_xcrs, 1);
	assert_int_equal(xcrs.xcrs[0].xcr, 0);
	assert_int_equal(xcrs.xcrs[0].value, 7);
}

static void test_xsave(void **state)
{
	struct kvm_xsave xsave, expected;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_XSAVE, &xsave), 0);
	expected = xsave;
	know_xsave((uint8_t *)expected.region);
	assert_memory_equal(&xsave, &expected, sizeof(xsave));
}

static void test_debugregs(void **state)
{
	struct kvm_debugregs debug;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_DEBUGREGS, &debug), 0);
	assert_memory_equal(&debug, &known_debugregs, sizeof(debug));
}

static void test_events(void **state)
{
	struct kvm_vcpu_events events, expected;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_VCPU_EVENTS, &events), 0);
	expected = events;
	know_events(&expected);
	expected.flags = events.flags;
	/* AMD's CPUs do not tell the one shadow from the other. */
	events.interrupt.shadow = events.interrupt.shadow != 0;
	assert_memory_equal(&events, &expected, sizeof(events));
}

static void test_lapic(void **state)
{
	struct kvm_lapic_state lapic, expected;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	expected = lapic;
	know_lapic(&expected);
	assert_memory_equal(&lapic, &expected, sizeof(lapic));
}

static void test_mp_state(void **state)
{
	struct kvm_mp_state mp;

	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_MP_STATE, &mp), 0);
	assert_int_equal(mp.mp_state, KVM_MP_STATE_HALTED);
}

static void test_msrs(void **state)
{
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(msrs); i++) {
		uint64_t value = taken[i] ? get_msr(msrs[i].index) : 0;

		if (!taken[i] || value == msrs[i].value)
			continue;
		print_error("MSR 0x%x is 0x%llx and was 0x%llx\n", msrs[i].index,
			    (unsigned long long)value, (unsigned long long)msrs[i].value);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

/* Clocks go on from where they were. */
static void test_clock(void **state)
{
	struct kvm_clock_data clock;

	(void)state;
	assert_int_equal(ioctl(m->vm.fd, KVM_GET_CLOCK, &clock), 0);
	assert_in_range(clock.clock, CLOCK_NS, CLOCK_NS + MINUTE_NS);
}

static void test_tsc(void **state)
{
	(void)state;
	if (!tsc_obeys)
		return;
	assert_in_range(get_msr(MSR_TSC), TSC, TSC + MINUTE_NS / 1000000 * m->vm.tsc_khz);
}

static void test_deadline(void **state)
{
	(void)state;
	assert_in_range(get_msr(MSR_TSC_DEADLINE), TSC_DEADLINE,
			TSC_DEADLINE + MINUTE_NS / 1000000 * m->vm.tsc_khz);
}

static void test_tsc_frequency(void **state)
{
	(void)state;
	assert_int_equal(ioctl(fd, KVM_GET_TSC_KHZ, 0), (int)m->vm.tsc_khz);
}

/* Over again: a guest with a kvmclock page is told, when it goes on, that it stood still. */
static void test_guest_is_told(void **state)
{
	struct live *kept = m;
	char told[80];
	uint8_t flags;

	(void)state;
	snprintf(told, sizeof(told), "%s/told", directory);
	m = live_boot("build/tests/guest/spin.elf", "");
	fd = m->vm.vcpus[0].fd;
	set_msr(MSR_KVMCLOCK, PVCLOCK | 1);
	assert_true(live_run_for(m, 2000));
	flags = *(uint8_t *)memory_at(&m->vm.memory, PVCLOCK + PVCLOCK_FLAGS, 1);
	assert_int_equal(flags & GUEST_STOPPED, 0);
	live_save(m, told);
	live_end(m);
	m = live_load(told);
	assert_true(live_run_for(m, 2000));
	flags = *(uint8_t *)memory_at(&m->vm.memory, PVCLOCK + PVCLOCK_FLAGS, 1);
	assert_int_equal(flags & GUEST_STOPPED, GUEST_STOPPED);
	live_end(m);
	m = kept;
	fd = m->vm.vcpus[0].fd;
}

static int save_and_load(void **state)
{
	(void)state;
	vm_block_signals();
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/saved", directory);
	m = live_boot("build/tests/guest/spin.elf", "");
	fd = m->vm.vcpus[0].fd;
	set_all();
	live_save(m, path);
	live_destroy(m);
	m = NULL; /* for remove_all(), should the load fail */
	m = live_load(path);
	fd = m->vm.vcpus[0].fd;
	return vcpu_flush(&m->vm.vcpus[0]);
}

static int remove_all(void **state)
{
	char command[100];

	(void)state;
	if (m)
		live_destroy(m);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regs),          cmocka_unit_test(test_sregs),
		cmocka_unit_test(test_xcr0),          cmocka_unit_test(test_xsave),
		cmocka_unit_test(test_debugregs),     cmocka_unit_test(test_events),
		cmocka_unit_test(test_lapic),         cmocka_unit_test(test_mp_state),
		cmocka_unit_test(test_msrs),          cmocka_unit_test(test_clock),
		cmocka_unit_test(test_tsc),           cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_tsc_frequency), cmocka_unit_test(test_guest_is_told),
	};

	return cmocka_run_group_tests_name("oracle", tests, save_and_load, remove_all);
}
