/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/boot/snapshot/compare_snapshots.h.
 */
#include "tests/unit/boot/snapshot/compare_snapshots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <string.h>

#define LAPIC_LVTT     0x320
#define LAPIC_TMICT    0x380
#define LAPIC_TMCCT    0x390
#define LAPIC_PERIODIC (1u << 17)
#define MSR_DEADLINE   0x6e0
#define XSTATE_BV      512 /* byte of the FPU state */

/* A cursor over the saved vCPU of both snapshots. */
struct pair {
	struct blob a, b;
};

static void pair_equal(struct pair *p, size_t len, const char *what)
{
	const uint8_t *a = blob_take(&p->a, len), *b = blob_take(&p->b, len);

	assert_non_null(a);
	assert_non_null(b);
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i])
			fail_msg("%s differs at byte %zu: %02x became %02x", what, i, a[i], b[i]);
}

static uint32_t pair_u32(struct pair *p, const char *what)
{
	uint32_t a = blob_get_u32(&p->a), b = blob_get_u32(&p->b);

	if (a != b)
		fail_msg("%s: %u became %u", what, a, b);
	return a;
}

/*
 * Equal but for the bits that say which of x87, SSE and AVX are in use: the CPU may call one with
 * its initial values either, and KVM_RUN asks it anew. KVM writes such values out: compared here.
 */
static void pair_fpu(struct pair *p)
{
	uint32_t len = pair_u32(p, "size of the FPU state");
	uint8_t a, b;

	pair_equal(p, XSTATE_BV, "FPU state");
	blob_get(&p->a, &a, 1);
	blob_get(&p->b, &b, 1);
	if ((a ^ b) & ~7)
		fail_msg("FPU components in use: 0x%x became 0x%x", a, b);
	pair_equal(p, len - XSTATE_BV - 1, "the rest of the FPU state");
}

/* Equal but for the timer's count, which only falls, a periodic one from its initial count again. */
static void pair_lapic(struct pair *p, uint64_t gap_us)
{
	struct kvm_lapic_state a, b;
	uint32_t count_a, count_b, initial, lvt;

	blob_get(&p->a, &a, sizeof(a));
	blob_get(&p->b, &b, sizeof(b));
	memcpy(&count_a, &a.regs[LAPIC_TMCCT], 4);
	memcpy(&count_b, &b.regs[LAPIC_TMCCT], 4);
	memcpy(&initial, &a.regs[LAPIC_TMICT], 4);
	memcpy(&lvt, &a.regs[LAPIC_LVTT], 4);
	if (count_b > count_a &&
	    (!(lvt & LAPIC_PERIODIC) || (uint64_t)count_a + initial - count_b > gap_us * 1000))
		fail_msg("the local APIC's timer went back: %u became %u", count_a, count_b);
	memset(&a.regs[LAPIC_TMCCT], 0, 4);
	memset(&b.regs[LAPIC_TMCCT], 0, 4);
	for (size_t i = 0; i < sizeof(a); i++)
		if (a.regs[i] != b.regs[i])
			fail_msg("local APIC register 0x%zx: %02x became %02x", i & ~15ul,
				 (uint8_t)a.regs[i], (uint8_t)b.regs[i]);
}

static void pair_msrs(struct pair *p)
{
	uint32_t count = pair_u32(p, "number of MSRs");

	for (uint32_t i = 0; i < count; i++) {
		struct kvm_msr_entry a, b;

		blob_get(&p->a, &a, sizeof(a));
		blob_get(&p->b, &b, sizeof(b));
		if (a.index != b.index)
			fail_msg("MSR 0x%x became MSR 0x%x", a.index, b.index);
		if (a.data == b.data)
			continue;
		/* A deadline that has passed reads as 0. */
		if (a.index == MSR_DEADLINE && b.data == 0)
			continue;
		fail_msg("MSR 0x%x: 0x%llx became 0x%llx", a.index, a.data, b.data);
	}
}

static void compare_vcpu(const struct state_section *a, const struct state_section *b,
			 uint64_t gap_us)
{
	struct pair p = { blob_reader(a->data, a->len), blob_reader(b->data, b->len) };
	uint64_t tsc_a, tsc_b;
	uint32_t khz, count;

	pair_equal(&p, 8, "host key");
	tsc_a = blob_get_u64(&p.a);
	tsc_b = blob_get_u64(&p.b);
	khz = pair_u32(&p, "TSC frequency");
	if (tsc_b < tsc_a || (tsc_b - tsc_a) * 1000 / khz > gap_us)
		fail_msg("TSC: %llu became %llu in %llu us", (unsigned long long)tsc_a,
			 (unsigned long long)tsc_b, (unsigned long long)gap_us);
	pair_equal(&p, sizeof(struct kvm_mp_state), "MP state");
	count = pair_u32(&p, "number of CPUID entries");
	pair_equal(&p, count * sizeof(struct kvm_cpuid_entry2), "CPUID");
	pair_equal(&p, sizeof(struct kvm_regs), "registers");
	pair_equal(&p, sizeof(struct kvm_sregs2), "system registers");
	pair_fpu(&p);
	pair_equal(&p, sizeof(struct kvm_xcrs), "XCR0");
	pair_equal(&p, sizeof(struct kvm_debugregs), "debug registers");
	pair_equal(&p, sizeof(struct kvm_vcpu_events), "pending events");
	pair_lapic(&p, gap_us);
	pair_msrs(&p);
	assert_int_equal(p.a.pos, p.a.len);
}

void compare_snapshots(const struct snapshot *a, const struct snapshot *b, uint64_t gap_us)
{
	assert_int_equal(a->state.count, b->state.count);
	assert_memory_equal(a->memory_digest, b->memory_digest, sizeof(a->memory_digest));
	for (unsigned i = 0; i < a->state.count; i++) {
		const struct state_section *sa = &a->state.sections[i];
		const struct state_section *sb = &b->state.sections[i];

		assert_string_equal(sa->name, sb->name);
		assert_int_equal(sa->version, sb->version);
		assert_int_equal(sa->len, sb->len);
		if (strcmp(sa->name, "vcpu") == 0) {
			compare_vcpu(sa, sb, gap_us);
			continue;
		}
		for (size_t at = 0; at < sa->len; at++) {
			/* "machine": kvmclock is the u64 at 20. */
			if (strcmp(sa->name, "machine") == 0 && at == 20) {
				uint64_t clock_a, clock_b;

				memcpy(&clock_a, sa->data + at, 8);
				memcpy(&clock_b, sb->data + at, 8);
				assert_true(clock_b >= clock_a);
				assert_true((clock_b - clock_a) / 1000 <= gap_us);
				at += 7;
				continue;
			}
			if (sa->data[at] != sb->data[at])
				fail_msg("section %s differs at byte %zu: %02x became %02x",
					 sa->name, at, sa->data[at], sb->data[at]);
		}
	}
}
