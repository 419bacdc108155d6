/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a vCPU on real KVM: what is left for the next KVM_RUN counts as loaded, what
 * cannot be left is set at once, a vCPU that has something else already gets every part,
 * and what KVM refuses is one sentence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "arch/vm.h"

#define MIB          (1ull << 20)
#define TSC_AT       8u /* in a saved vCPU */
#define LAPIC_TPR    0x80u
#define LAPIC_PPR    0xa0u
#define LAPIC_LDR    0xd0u
#define LAPIC_LVTT   0x320u
#define LAPIC_MASKED 0x10000u
#define LAPIC_TMICT  0x380u
#define LAPIC_TMCCT  0x390u
#define LAPIC_TDCR   0x3e0u
#define X2APIC       0x400u
#define XSTATE_BV    512u /* in the FPU state */
#define CR0_PE       0x1u
#define CR0_ET       0x10u
#define CR0_PG       0x80000000u
#define CR4_PAE      0x20u

/* Where the parts of a saved vCPU begin that the tests change. */
struct layout {
	size_t mp_state, regs, sregs, xsave, xcrs, debug, events, lapic;
};

static struct vm vm;
static struct vcpu *vcpu; /* the only one of vm */
static struct blob saved; /* of a vCPU that was booted */
static struct layout layout;

static void find_layout(void)
{
	struct blob in = blob_reader(saved.data, saved.len);

	blob_take(&in, 20);
	layout.mp_state = in.pos;
	blob_take(&in, sizeof(struct kvm_mp_state));
	blob_take(&in, blob_get_u32(&in) * sizeof(struct kvm_cpuid_entry2));
	layout.regs = in.pos;
	layout.sregs = layout.regs + sizeof(struct kvm_regs);
	blob_take(&in, sizeof(struct kvm_regs) + sizeof(struct kvm_sregs2));
	layout.xsave = in.pos + 4;
	blob_take(&in, blob_get_u32(&in));
	layout.xcrs = in.pos;
	layout.debug = layout.xcrs + sizeof(struct kvm_xcrs);
	layout.events = layout.debug + sizeof(struct kvm_debugregs);
	layout.lapic = layout.events + sizeof(struct kvm_vcpu_events);
	assert_false(in.failed);
}

static void make_vm(void)
{
	struct memory memory;
	uint64_t clock;

	assert_int_equal(memory_create(&memory, 16 * MIB), 0);
	if (vm_create(&vm, &memory, 1, true) < 0)
		fail_msg("%s", error_text());
	vcpu = &vm.vcpus[0];
	assert_int_equal(vm_clock_get(&vm, &clock), 0);
}

/* A new machine for the test, and what one saves that was booted. */
static int set_up(void **state)
{
	const struct boot_regs regs = { .entry = BOOT_ENTRY_LINUX64, .ip = 0x123456 };
	struct host_cpuid *host = host_cpuid_start();

	(void)state;
	make_vm();
	assert_true(vcpu->fresh);
	assert_int_equal(vcpu_boot(vcpu, &regs, host), 0);
	host_cpuid_free(host);
	saved = (struct blob){ 0 };
	assert_int_equal(vcpu_save(vcpu, &saved), 0);
	find_layout();
	vm_destroy(&vm);
	make_vm();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vm_destroy(&vm);
	blob_fini(&saved);
	return 0;
}

static void load(void)
{
	unsigned skipped = 0;

	if (vcpu_load(vcpu, saved.data, saved.len, true, &skipped) < 0)
		fail_msg("%s", error_text());
	assert_false(vcpu->fresh);
}

/*
 * The vCPU has what `saved` says; the TSC runs, and parts of the FPU with their first values may be
 * said to be in use.
 */
static void assert_loaded(void)
{
	struct blob now = { 0 };

	assert_int_equal(vcpu_save(vcpu, &now), 0);
	assert_int_equal(vcpu->run->kvm_dirty_regs, 0);
	assert_int_equal(now.len, saved.len);
	for (size_t i = 0; i < now.len; i++)
		if (now.data[i] != saved.data[i] && (i < TSC_AT || i >= TSC_AT + 8) &&
		    i != layout.xsave + XSTATE_BV)
			fail_msg("byte %zu: %02x became %02x (registers at %zu, local APIC at %zu)",
				 i, saved.data[i], now.data[i], layout.regs, layout.lapic);
	blob_fini(&now);
}

static struct kvm_sregs2 get_sregs(void)
{
	struct kvm_sregs2 sregs;

	memcpy(&sregs, saved.data + layout.sregs, sizeof(sregs));
	return sregs;
}

static void put_sregs(const struct kvm_sregs2 *sregs)
{
	memcpy(saved.data + layout.sregs, sregs, sizeof(*sregs));
}

static uint64_t offered(void)
{
	return (uint64_t)ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
}

static void test_saved_without_a_run(void **state)
{
	(void)state;
	load();
	assert_int_equal(vcpu->run->kvm_dirty_regs, offered());
	assert_loaded();
}

/* The second load is what counts, whether KVM has taken the first or not. */
static void test_loaded_twice(void **state)
{
	struct kvm_regs regs;
	struct kvm_sregs2 sregs = get_sregs();

	(void)state;
	load();
	memcpy(&regs, saved.data + layout.regs, sizeof(regs));
	regs.rip = 0x654321;
	memcpy(saved.data + layout.regs, &regs, sizeof(regs));
	sregs.cr3 += 0x1000;
	put_sregs(&sregs);
	load();
	assert_false(vcpu->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS);
	assert_loaded();
	regs.rip = 0x777777;
	memcpy(saved.data + layout.regs, &regs, sizeof(regs));
	load();
	assert_loaded();
}

/* Gives the vCPU another value for every part that a fresh one is spared. */
static void disturb(void)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 3 } } };
	struct kvm_debugregs debug = { .db = { 0x1000 }, .dr6 = 0xffff0ff1, .dr7 = 0x401 };
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };
	struct kvm_vcpu_events events;
	struct kvm_xsave xsave = { 0 };
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;

	assert_int_equal(vcpu_flush(vcpu), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debug), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	sregs.apic_base |= X2APIC;
	sregs.cr8 = 5;
	sregs.cr3 = 0x5000;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic), 0);
	lapic.regs[LAPIC_TPR] = 0x57;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave), 0);
	memset((uint8_t *)xsave.region + 160, 0x5a, 256); /* xmm0-15 */
	((uint8_t *)xsave.region)[512] = 3;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events), 0);
	events.nmi.masked = 1;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp), 0);
}

static void test_loaded_over_another_state(void **state)
{
	(void)state;
	load();
	disturb();
	load();
	assert_loaded();
}

/* Only a state of the FPU that a new vCPU has is not set. */
static void test_fpu(void **state)
{
	static const unsigned values[] = { 0 /* FCW */, 24 /* MXCSR */, 170 /* xmm0 */ };
	uint8_t *xsave = saved.data + layout.xsave;
	unsigned char none;

	(void)state;
	xsave[XSTATE_BV] = 7; /* in use, with their first values */
	load();
	xsave[XSTATE_BV] = 0;
	assert_loaded();
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		vm_destroy(&vm);
		make_vm();
		none = xsave[values[i]];
		xsave[values[i]] ^= 0x20;
		xsave[XSTATE_BV] = i == 0 ? 1 : 2;
		load();
		assert_loaded();
		xsave[values[i]] = none;
	}
}

/* The run page has no place for PDPTRs. */
static void test_pdptrs(void **state)
{
	struct kvm_sregs2 sregs = get_sregs(), now;

	(void)state;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.cr4 = CR4_PAE;
	sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	for (unsigned i = 0; i < 4; i++)
		sregs.pdptrs[i] = 0x1000 * (i + 1) + 1;
	put_sregs(&sregs);
	load();
	assert_int_equal(vcpu->run->kvm_dirty_regs, offered() & ~(uint64_t)KVM_SYNC_X86_SREGS);
	assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS2, &now), 0);
	if (!(now.cr0 & CR0_PG))
		return; /* a KVM that has no such guests */
	assert_loaded();
}

/* cr8 holds the upper half of the task priority: the local APIC has to come last. */
static void test_task_priority(void **state)
{
	struct kvm_sregs2 sregs = get_sregs();

	(void)state;
	sregs.cr8 = 2;
	put_sregs(&sregs);
	saved.data[layout.lapic + LAPIC_TPR] = saved.data[layout.lapic + LAPIC_PPR] = 0x2b;
	load();
	assert_int_equal(vcpu->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS, 0);
	assert_loaded();
}

/* In another mode than a new local APIC the registers mean something else. */
static void test_apic_base(void **state)
{
	struct kvm_sregs2 sregs = get_sregs();

	(void)state;
	sregs.apic_base |= X2APIC;
	put_sregs(&sregs);
	saved.data[layout.lapic + LAPIC_LDR] = 1; /* made from the id then */
	load();
	assert_int_equal(vcpu->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS, 0);
	assert_loaded();
}

/* Before its guest's state is loaded a vCPU has run the stub: nothing of that is left. */
static void test_loaded_after_the_stub(void **state)
{
	struct memory template, memory;
	uint8_t *page;

	(void)state;
	vm_destroy(&vm);
	assert_int_equal(memory_create(&template, 16 * MIB), 0);
	page = memory_at(&template, LAYOUT_STUB, LAYOUT_PAGE_SIZE);
	memset(page, 0xa5, LAYOUT_PAGE_SIZE);
	assert_int_equal(memory_map_cow(&memory, 16 * MIB, dup(template.fd)), 0);
	assert_int_equal(vm_create(&vm, &memory, 1, true), 0);
	assert_int_equal(vcpu_load_cpuid(vcpu, saved.data, saved.len), 0);
	assert_int_equal(vcpu_run_stub(vcpu), 0);
	assert_memory_equal(memory_at(&vm.memory, LAYOUT_STUB, LAYOUT_PAGE_SIZE), page,
			    LAYOUT_PAGE_SIZE);
	memory_destroy(&template);
	load();
	assert_loaded();
}

/* What loading noted is what KVM says when it is asked again. */
static void test_tsc(void **state)
{
	uint64_t noted, asked;
	uint32_t khz;

	(void)state;
	load();
	assert_true(vcpu->tsc_known);
	assert_int_equal(vcpu_tsc(vcpu, &noted, &khz), 0);
	vcpu->tsc_known = false;
	assert_int_equal(vcpu_tsc(vcpu, &asked, &khz), 0);
	assert_true(asked > noted && asked - noted < 100ull * khz);
	memset(saved.data + TSC_AT, 0x01, 7); /* some other time */
	load();
	assert_int_equal(vcpu_tsc(vcpu, &noted, &khz), 0);
	vcpu->tsc_known = false;
	assert_int_equal(vcpu_tsc(vcpu, &asked, &khz), 0);
	assert_true(asked > noted && asked - noted < 100ull * khz);
}

static void put_lapic(unsigned at, uint32_t value)
{
	memcpy(saved.data + layout.lapic + at, &value, sizeof(value));
}

static uint32_t timer_count(void)
{
	struct kvm_lapic_state lapic;
	uint32_t count;

	assert_int_equal(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic), 0);
	memcpy(&count, &lapic.regs[LAPIC_TMCCT], sizeof(count));
	return count;
}

/* A timer that runs goes on from where it was saved, however long ago the state was loaded. */
static void test_time(void **state)
{
	const uint32_t half = 0x80000000;
	uint32_t waited;

	(void)state;
	assert_false(vcpu_keeps_time(saved.data, saved.len));
	put_lapic(LAPIC_LVTT, LAPIC_MASKED | 0x30);
	put_lapic(LAPIC_TDCR, 0xb);
	put_lapic(LAPIC_TMICT, 0xffffffff);
	put_lapic(LAPIC_TMCCT, half);
	assert_false(vcpu_keeps_time(saved.data, saved.len));
	put_lapic(LAPIC_LVTT, 0x30);
	assert_true(vcpu_keeps_time(saved.data, saved.len));
	load();
	usleep(200000);
	waited = timer_count();
	assert_true(waited < half);
	assert_int_equal(vcpu_load_time(vcpu, saved.data, saved.len), 0);
	assert_in_range(timer_count(), waited + 1, half);
	assert_false(vcpu->tsc_known);
}

static void test_what_kvm_refuses(void **state)
{
	struct kvm_sregs2 sregs = get_sregs();

	(void)state;
	sregs.cr0 = CR0_PG | CR0_ET; /* paging without protected mode */
	put_sregs(&sregs);
	load();
	assert_int_equal(vcpu_flush(vcpu), -22);
	assert_string_equal(error_text(),
			    "KVM refuses vCPU 0's system registers: Invalid argument");
	assert_int_equal(vm_run(&vm), VM_END_HOST);
	assert_string_equal(vm.end.text, "KVM refuses vCPU 0's system registers: Invalid argument");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_saved_without_a_run, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_loaded_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_loaded_over_another_state, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fpu, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pdptrs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_task_priority, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_apic_base, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_loaded_after_the_stub, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_tsc, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_kvm_refuses, set_up, tear_down),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("vcpu_load", tests, NULL, NULL);
}
