/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest in ring 0 can change of its machine. What its KVM does not take is left out.
 */
#include "tests/guest/ring0/cpu.h"

#define MARK  0x5ead5ead5ead5eadull

/* With a page: the value is the address of one, and bits. */
#define PAGED (1ull << 63)

uint8_t ring0_pv_pages[RING0_PV_PAGES][PAGE_SIZE] __attribute__((aligned(4096)));

const struct msr_range ring0_msrs[RING0_MSRS] = {
	{ 0x3a, 1, 1 },              /* FEATURE_CONTROL */
	{ 0x3b, 1, 0x123456789000 }, /* TSC_ADJUST */
	{ 0x48, 1, 1 },              /* SPEC_CTRL */
	{ 0x8b, 1, MARK },           /* microcode revision */
	{ 0xe1, 1, 0x100 },          /* UMWAIT_CONTROL */
	{ 0x140, 1, 1 },             /* MISC_FEATURES_ENABLES */
	{ 0x174, 1, 0x1234 },        /* SYSENTER */
	{ 0x175, 2, 0x5ead5ead },
	{ 0x17a, 1, 4 }, /* MCG_STATUS */
	{ 0x17b, 1, 0x5ead },
	{ 0x1a0, 1, 0x800 },      /* MISC_ENABLE */
	{ 0x1d9, 1, 1 },          /* DEBUGCTL */
	{ 0x1db, 4, 0x5ead },     /* last branches and exceptions */
	{ 0x200, 16, 0x5ead000 }, /* MTRRs */
	{ 0x250, 1, 0x0505050505050505 },
	{ 0x258, 2, 0x0505050505050505 },
	{ 0x268, 8, 0x0505050505050505 },
	{ 0x277, 1, 0x0606060606060606 }, /* PAT */
	{ 0x2ff, 1, 0xc06 },
	{ 0x4d0, 1, 1 },     /* MCG_EXT_CTL */
	{ 0xda0, 1, 0x100 }, /* XSS */
	{ 0xc0000081, 3, 0x5ead5ead },
	{ 0xc0000084, 1, 0x47700 },
	{ 0xc0000100, 4, 0x5ead5ead }, /* FS, GS, the other GS, TSC_AUX */
	{ 0xc0010015, 1, 0x1040000 },  /* HWCR: McStatusWrEn, IRPerfEn */
	{ 0xc001011f, 1, 4 },          /* VIRT_SPEC_CTRL */
	{ 0x11, 1, PAGED },            /* KVM's: clocks, steal time, end of interrupt, ... */
	{ 0x12, 1, PAGED | 1 },
	{ 0x4b564d00, 1, PAGED },
	{ 0x4b564d01, 1, PAGED | 1 },
	{ 0x4b564d06, 1, 0x55 },
	{ 0x4b564d02, 1, PAGED | 9 },
	{ 0x4b564d03, 1, PAGED | 1 },
	{ 0x4b564d04, 1, PAGED | 1 },
	{ 0x4b564d05, 1, 0 },
	{ 0x4b564d08, 1, 1 },
	{ 0x400, 0x80, MARK }, /* machine-check banks: CTL, STATUS, ADDR, MISC of each */
};

static bool xcr0_set(uint32_t value)
{
	return TRY("xsetbv", : : "a"(value), "d"(0), "c"(0) : "memory");
}

static uint64_t pkru_write(uint64_t value)
{
	__asm__ volatile("wrpkru" : : "a"((uint32_t)value), "c"(0), "d"(0) : "memory");
	return 0;
}

void state_init(void)
{
	uint64_t cr4;

	READ("cr4", cr4);
	cr4 |= CR4_PGE;
	if (cpu_has(1, 26))
		cr4 |= CR4_OSXSAVE;
	if (cpu_has(7, 3))
		cr4 |= CR4_PKE;
	WRITE("cr4", cr4);
}

static void set_msrs(void)
{
	for (uint32_t i = 0; i < RING0_MSRS; i++) {
		uint64_t value = ring0_msrs[i].value;

		if (value & PAGED)
			value = (value & 0xff) | (uint64_t)ring0_pv_pages[i % RING0_PV_PAGES];
		for (uint32_t n = 0; n < ring0_msrs[i].count; n++)
			if (!msr_write(ring0_msrs[i].first + n, value))
				msr_write(ring0_msrs[i].first + n, ~0ull); /* CTL of a bank */
	}
}

static void set_control(void)
{
	static uint64_t other[512] __attribute__((aligned(4096)));
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer;
	uint64_t value;

	memcpy(other, boot_pml4, sizeof(other));
	WRITE("cr3", (uint64_t)other);
	READ("cr0", value);
	WRITE("cr0", value ^ (1ull << 16 | 1ull << 18 | 1ull << 1)); /* WP, AM, MP */
	WRITE("cr2", MARK);
	READ("cr4", value);
	WRITE("cr4",
	      value ^ (1ull << 2 | 1ull << 3 | 1ull << 8 | 1ull << 10)); /* TSD DE PCE OSXMMEXCPT */
	if (value & CR4_OSXSAVE)
		xcr0_set(3);
	if (value & CR4_PKE)
		ring3_call(pkru_write, 0x5ead0000);
	msr_read(0xc0000080, &value);
	msr_write(0xc0000080, value | 1); /* EFER.SCE */
	__asm__ volatile("sgdt %0" : "=m"(pointer));
	pointer.limit += 8;
	__asm__ volatile("lgdt %0" : : "m"(pointer));
	__asm__ volatile("sidt %0" : "=m"(pointer));
	pointer.limit -= 16;
	__asm__ volatile("lidt %0" : : "m"(pointer));
	WRITE("db0", MARK & 0x7fffffff);
	WRITE("db1", MARK & 0x7ffffffe);
	WRITE("db2", MARK & 0x7ffffffc);
	WRITE("db3", MARK & 0x7ffffff8);
	WRITE("db6", 0xffff0ff1ull);
	WRITE("db7", 0x401ull);
}

static void set_lapic(uint64_t number)
{
	*lapic(LAPIC_SVR) = 0x1ff;
	*lapic(LAPIC_TPR) = 0x20;
	*lapic(LAPIC_DFR) = 0x0fffffff;
	*lapic(LAPIC_LDR) = 0x5e000000;
	for (uint32_t reg = LAPIC_LVTT + 0x10; reg <= LAPIC_LVTERR; reg += 0x10)
		*lapic(reg) = 0x100e0;
	*lapic(LAPIC_TDCR) = 0xb;
	*lapic(LAPIC_LVTT) = TIMER_VECTOR | (number == 2 ? TIMER_TSC : TIMER_PERIOD);
	if (number == 2)
		msr_write(MSR_DEADLINE, tsc_now() + (1ull << 31));
	else
		*lapic(LAPIC_TMICT) = 1000000; /* a millisecond of KVM's bus */
	*lapic(LAPIC_ICR_TO) = 0;
	*lapic(LAPIC_ICR) = ICR_SELF | SELF_VECTOR; /* stays pending: interrupts are off */
}

uint32_t ring0_send_nmi(void)
{
	uint32_t before = nmi_count;

	*lapic(LAPIC_ICR_TO) = *lapic(LAPIC_ID);
	*lapic(LAPIC_ICR) = ICR_NMI;
	for (uint32_t i = 0; i < NMI_PATIENCE && nmi_count == before; i++)
		__builtin_ia32_pause();
	return nmi_count - before;
}

void state_set(struct guest *g, uint64_t number)
{
	struct ring0_page *p = &ring0_page;

	for (uint32_t i = 0; i < RING0_PAGES; i++)
		g->memory.scratch[i * (PAGE_SIZE / 8)] = MARK;
	if (p->at != NULL) {
		*p->entry = p->second;
		__asm__ volatile("invlpg (%0)" : : "r"(p->at) : "memory");
		ring3_call(state_read, (uint64_t)p->at); /* now they are known for it */
	}
	set_msrs();
	set_control();
	set_lapic(number);
	msr_write(MSR_TSC, tsc_now() + (1ull << 45));
}

uint32_t state_block_nmi(void)
{
	if (ring0_send_nmi())
		ring0_send_nmi();
	return nmi_count;
}
