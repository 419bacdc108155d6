/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest in ring 0 sees of its machine. Nothing here knows what is right: the test compares
 * what is seen before and after.
 */
#include "tests/guest/ring0/cpu.h"

uint64_t state_read(uint64_t at)
{
	return *(const volatile uint8_t *)at;
}

static uint64_t xcr0_read(uint64_t none)
{
	uint32_t low, high;

	(void)none;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static uint64_t pkru_read(uint64_t none)
{
	uint32_t low, high;

	(void)none;
	__asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static char *put_text(char *at, const char *text)
{
	while (*text != '\0')
		*at++ = *text++;
	return at;
}

static char *put_hex(char *at, uint64_t value, uint32_t digits)
{
	while (digits-- > 0)
		*at++ = "0123456789abcdef"[value >> 4 * digits & 15];
	return at;
}

char *state_put(char *at, const char *name, uint64_t value)
{
	at = put_text(at, name);
	*at++ = ' ';
	at = put_hex(at, value, value >> 32 ? 16 : 8);
	*at++ = '\n';
	return at;
}

static char *look_msrs(char *at)
{
	uint64_t value;

	for (uint32_t i = 0; i < RING0_MSRS; i++)
		for (uint32_t n = 0; n < ring0_msrs[i].count; n++) {
			char name[] = "msr-........";

			put_hex(name + 4, ring0_msrs[i].first + n, 8);
			if (msr_read(ring0_msrs[i].first + n, &value))
				at = state_put(at, name, value);
			else
				at = put_text(put_text(at, name), " -\n");
		}
	return at;
}

#define LOOK(name)                               \
	do {                                     \
		READ(name, value);               \
		at = state_put(at, name, value); \
	} while (0)

static char *look_control(char *at)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer;
	uint64_t value;

	LOOK("cr0");
	LOOK("cr2");
	LOOK("cr3");
	LOOK("cr4");
	if (value & CR4_OSXSAVE)
		at = state_put(at, "xcr0", ring3_call(xcr0_read, 0));
	if (value & CR4_PKE)
		at = state_put(at, "pkru", ring3_call(pkru_read, 0));
	LOOK("cr8");
	LOOK("db0");
	LOOK("db1");
	LOOK("db2");
	LOOK("db3");
	LOOK("db6");
	LOOK("db7");
	msr_read(0xc0000080, &value);
	at = state_put(at, "efer", value);
	__asm__ volatile("sgdt %0" : "=m"(pointer));
	at = state_put(at, "gdt-limit", pointer.limit);
	__asm__ volatile("sidt %0" : "=m"(pointer));
	return state_put(at, "idt-limit", pointer.limit);
}

static char *look_lapic(char *at)
{
	/* All that are state, each with the number of those that follow it. */
	static const uint16_t registers[][2] = {
		{ LAPIC_ID, 2 },   { LAPIC_TPR, 1 }, { LAPIC_PPR, 1 },  { LAPIC_LDR, 3 },
		{ LAPIC_ISR, 25 }, { LAPIC_ICR, 9 }, { LAPIC_TDCR, 1 },
	};
	uint64_t value = 0;

	for (uint32_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
		for (uint32_t n = 0; n < registers[i][1]; n++) {
			uint32_t reg = registers[i][0] + 0x10 * n;
			char name[] = "lapic-...";

			put_hex(name + 6, reg, 3);
			at = state_put(at, name, *lapic(reg));
		}
	msr_read(MSR_DEADLINE, &value);
	at = state_put(at, "deadline", value);
	return state_put(at, "nmis", nmi_count);
}

static char *look_memory(struct guest *g, char *at)
{
	const struct ring0_page *p = &ring0_page;
	uint64_t count = 0, pv = 0;

	for (uint32_t i = 0; i < RING0_PAGES; i++)
		count += g->memory.scratch[i * (PAGE_SIZE / 8)] != 0;
	for (uint32_t i = 0; i < RING0_PV_PAGES; i++)
		for (uint32_t n = 0; n < 64; n += 4)
			pv |= *(volatile uint32_t *)(ring0_pv_pages[i] + n);
	at = state_put(at, "memory", count);
	at = state_put(at, "kvm-pages", pv != 0);
	return state_put(at, "mapped", p->at != NULL ? ring3_call(state_read, (uint64_t)p->at) : 0);
}

/* Whether an NMI comes, and how many more once they are not blocked. */
char *state_look_nmi(char *at)
{
	uint32_t sent = ring0_send_nmi();

	at = state_put(at, "nmi-came", sent);
	ring0_iret();
	return state_put(at, "nmi-all", nmi_count);
}

char *state_look(struct guest *g, char *at)
{
	uint64_t tsc = 0;

	at = state_put(at, "tsc", tsc_now());
	msr_read(MSR_TSC, &tsc);
	at = state_put(at, "tsc-msr", tsc);
	at = state_put(at, "khz", identity()->tsc_khz);
	at = look_memory(g, at);
	at = look_control(at);
	at = look_msrs(at);
	return look_lapic(at);
}

char *state_timer(char *at, uint64_t ms)
{
	uint32_t seen = timer_count;
	uint64_t start;

	*lapic(LAPIC_SVR) = 0x1ff;
	*lapic(LAPIC_TDCR) = 0xb; /* by 1: KVM's bus runs at 1 GHz */
	*lapic(LAPIC_LVTT) = TIMER_VECTOR;
	start = tsc_now();
	*lapic(LAPIC_TMICT) = (uint32_t)(ms * 1000000);
	__asm__ volatile("sti");
	while (timer_count == seen)
		__builtin_ia32_pause();
	__asm__ volatile("cli");
	at = state_put(at, "timer-tsc", tsc_now() - start);
	return state_put(at, "khz", identity()->tsc_khz);
}
