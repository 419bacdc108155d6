/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CPU as ring 0 has it: MSRs, control registers, the local APIC; and what set.c and look.c share.
 */
#ifndef VIRGA_TESTS_GUEST_RING0_CPU_H
#define VIRGA_TESTS_GUEST_RING0_CPU_H

#include "arch/layout.h"
#include "tests/guest/ring0/ring0.h"

#define LAPIC_ID     0x20u
#define LAPIC_TPR    0x80u
#define LAPIC_PPR    0xa0u
#define LAPIC_LDR    0xd0u
#define LAPIC_DFR    0xe0u
#define LAPIC_SVR    0xf0u
#define LAPIC_ISR    0x100u
#define LAPIC_ICR    0x300u
#define LAPIC_ICR_TO 0x310u
#define LAPIC_LVTT   0x320u
#define LAPIC_LINT0  0x350u
#define LAPIC_LVTERR 0x370u
#define LAPIC_TMICT  0x380u
#define LAPIC_TDCR   0x3e0u
#define TIMER_PERIOD (1u << 17)
#define TIMER_TSC    (2u << 17)
#define ICR_NMI      0x4400u /* and assert */
#define ICR_SELF     0x44000u
#define SELF_VECTOR  0x52u
#define NMI_PATIENCE 200u /* looks for one that was sent */

#define MSR_TSC      0x10u
#define MSR_DEADLINE 0x6e0u

/* A run of MSRs, each to be given that value. */
struct msr_range {
	uint32_t first, count;
	uint64_t value;
};

/* set.c: the MSRs that `set` sets and `look` reads; pages that some of them have KVM write to. */
#define RING0_MSRS     37u
#define RING0_PV_PAGES 4u
extern const struct msr_range ring0_msrs[RING0_MSRS];
extern uint8_t ring0_pv_pages[RING0_PV_PAGES][PAGE_SIZE];

/* Sends itself an NMI; how many came. */
uint32_t ring0_send_nmi(void);

#define CR4_PGE            (1ull << 7)
#define CR4_OSXSAVE        (1ull << 18)
#define CR4_PKE            (1ull << 22)

#define READ(what, value)  __asm__ volatile("mov %%" what ", %0" : "=r"(value))
#define WRITE(what, value) __asm__ volatile("mov %0, %%" what : : "r"(value) : "memory")
/* Runs an instruction that may be refused; true when it was not. */
#define TRY(instruction, ...)                                                                \
	({                                                                                   \
		uint32_t before = fault_count;                                               \
		__asm__ volatile("movq $1f, fault_resume\n" instruction "\n1:" __VA_ARGS__); \
		fault_count == before;                                                       \
	})

static inline volatile uint32_t *lapic(uint32_t reg)
{
	return (volatile uint32_t *)(uint64_t)(LAYOUT_LAPIC + reg);
}

static inline bool msr_read(uint32_t index, uint64_t *value)
{
	uint32_t low = 0, high = 0;
	bool had = TRY("rdmsr", : "+a"(low), "+d"(high) : "c"(index) : "memory");

	*value = (uint64_t)high << 32 | low;
	return had;
}

static inline bool msr_write(uint32_t index, uint64_t value)
{
	return TRY("wrmsr",
		   :
		   : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index)
		   : "memory");
}

static inline bool cpu_has(uint32_t leaf, uint32_t bit)
{
	uint32_t a = leaf, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return c >> bit & 1;
}

#endif
