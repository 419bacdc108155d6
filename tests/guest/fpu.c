/* SPDX-License-Identifier: Apache-2.0 */
/* x87, SSE and AVX registers hold a pattern that is checked for ever, and a line is printed
every 100 ms: ticks=N (3) times, 0 without end. What a snapshot loses here is found. */
#include "tests/guest/guest.h"

/* In memory for the asm below; ymm registers where the machine has them, else xmm. */
static uint8_t pattern[16][32] __attribute__((aligned(32)));
static uint8_t found[16][32] __attribute__((aligned(32)));
static const uint16_t x87_control = 0x0c7f; /* rounds towards zero */
static const uint32_t mxcsr = 0x7f80;       /* so does SSE */
static const uint64_t x87_value = 0x0123456789abcdef;

/* Ring 0: CR4.OSXSAVE and XCR0 where CPUID offers XSAVE with AVX. */
void avx_enable(void);
__asm__(".text\n"
	"avx_enable:\n"
	"	push %rax\n	push %rbx\n	push %rcx\n	push %rdx\n"
	"	mov $1, %eax\n"
	"	xor %ecx, %ecx\n"
	"	cpuid\n"
	"	and $0x14000000, %ecx\n"
	"	cmp $0x14000000, %ecx\n"
	"	jne 1f\n"
	"	mov %cr4, %rax\n"
	"	or $0x40000, %eax\n"
	"	mov %rax, %cr4\n"
	"	xor %ecx, %ecx\n"
	"	mov $7, %eax\n"
	"	xor %edx, %edx\n"
	"	xsetbv\n"
	"1:	pop %rdx\n	pop %rcx\n	pop %rbx\n	pop %rax\n"
	"	addq $2, (%rsp)\n" /* past the ud2 of ring0_call() */
	"	iretq\n");

/* What ring 3 may use: OSXSAVE, AVX, and XCR0 that says so. */
static bool avx_usable(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if ((c & 0x18000000) != 0x18000000)
		return false;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (a & 6) == 6;
}

#define ALL_REGISTERS(OP) \
	OP(0)             \
	OP(1)             \
	OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11) OP(12) OP(13) OP(14) OP(15)
#define AVX_LOAD(n)  "vmovdqu 32*" #n "(%0), %%ymm" #n "\n"
#define AVX_STORE(n) "vmovdqu %%ymm" #n ", 32*" #n "(%0)\n"
#define SSE_LOAD(n)  "movdqu 32*" #n "(%0), %%xmm" #n "\n"
#define SSE_STORE(n) "movdqu %%xmm" #n ", 32*" #n "(%0)\n"

static void registers_load(bool avx)
{
	__asm__ volatile("fninit; fldcw %0; fildq %1" : : "m"(x87_control), "m"(x87_value));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	if (avx)
		__asm__ volatile(ALL_REGISTERS(AVX_LOAD) : : "r"(pattern) : "memory");
	else
		__asm__ volatile(ALL_REGISTERS(SSE_LOAD) : : "r"(pattern) : "memory");
}

static void registers_check(bool avx)
{
	uint64_t x87;
	uint32_t sse;
	uint16_t control;

	if (avx)
		__asm__ volatile(ALL_REGISTERS(AVX_STORE) : : "r"(found) : "memory");
	else
		__asm__ volatile(ALL_REGISTERS(SSE_STORE) : : "r"(found) : "memory");
	for (unsigned i = 0; i < sizeof(pattern) / 8; i++) {
		if (!avx && i % 4 >= 2)
			continue;
		if (((volatile uint64_t *)found)[i] != ((volatile uint64_t *)pattern)[i])
			fail("a vector register has changed");
	}
	__asm__ volatile("fld %%st(0); fistpll %0; fnstcw %1" : "=m"(x87), "=m"(control));
	__asm__ volatile("stmxcsr %0" : "=m"(sse));
	if (x87 != x87_value || control != x87_control)
		fail("the x87 state has changed");
	if (sse != mxcsr)
		fail("MXCSR has changed");
}

void guest_main(const struct pvh_info *info)
{
	uint64_t ticks = option_number(info, "ticks", 3), next;
	bool avx;

	ring0_call(avx_enable);
	avx = avx_usable();
	print(avx ? "avx\n" : "sse\n");
	for (unsigned i = 0; i < sizeof(pattern); i++)
		((uint8_t *)pattern)[i] = (uint8_t)(i * 37 + 11);
	registers_load(avx);
	next = rdtsc();
	for (uint64_t tick = 1; ticks == 0 || tick <= ticks; tick++) {
		next += 100ull * identity()->tsc_khz;
		while (rdtsc() < next)
			registers_check(avx);
		print("tick ");
		print_number(tick);
		print("\n");
	}
	success();
}
