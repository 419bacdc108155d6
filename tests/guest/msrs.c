/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring 0 tries to write four values to every MSR of the ranges below, between two writes to a port.
 * What the last of them was that took stays. What it writes to load microcode, as Linux does, is no
 * fault.
 */
#include "tests/guest/guest.h"

#define PORT 0x700
#define GP   13

struct range {
	uint32_t first, last;
};

extern const struct range ranges[];
extern const uint64_t values[];

/* Not the APIC base, the local APIC's and EFER: by these a guest ends itself. */
const struct range ranges[] = {
	{ 0xc0000081, 0xc000010f },
	{ 0xc0000300, 0xc0000303 },
	{ 0xc0010000, 0xc001015f },
	{ 0xc0011000, 0xc001103f },
	{ 0xc0002000, 0xc000203f },
	{ 0, 0x1a },
	{ 0x1c, 0x20f },
	{ 0x250, 0x2ff },
	{ 0x300, 0x4ff },
	{ 0x600, 0x7ff },
	{ 0xc80, 0xc9f },
	{ 0xd90, 0xdbf },
	{ 0x40000000, 0x400001ff },
	{ 0x4b564d00, 0x4b564dff },
	{ 0, 0 },
};

const uint64_t values[] = { ~0ull, 0x0606060606060606, 0xc00, 0x40000 };

volatile uint32_t msrs_refused __attribute__((used));

/* Ring 0; msrs_gp passes over a wrmsr that was refused. */
void msrs_write(void);
void msrs_microcode(void);
void msrs_gp(void);
__asm__(".text\n"
	"msrs_gp:\n" /* past the wrmsr */
	"	addq $8, %rsp\n"
	"	addq $2, (%rsp)\n"
	"	incl msrs_refused\n"
	"	iretq\n"
	"msrs_microcode:\n"
	"	addq $2, (%rsp)\n"
	"	pushq %rax\n	pushq %rcx\n	pushq %rdx\n"
	"	movl $0x79, %ecx\n"
	"	xorl %eax, %eax\n"
	"	xorl %edx, %edx\n"
	"	wrmsr\n"
	"	popq %rdx\n	popq %rcx\n	popq %rax\n"
	"	iretq\n"
	"msrs_write:\n"
	"	addq $2, (%rsp)\n" /* past the ud2 of ring0_call() */
	"	pushq %rax\n	pushq %rcx\n	pushq %rdx\n	pushq %rbx\n"
	"	pushq %rsi\n	pushq %rdi\n"
	"	leaq ranges, %rsi\n"
	"1:	movl (%rsi), %ecx\n"
	"2:	xorl %ebx, %ebx\n"
	"3:	movl values(,%rbx,8), %eax\n"
	"	movl values+4(,%rbx,8), %edx\n"
	"	wrmsr\n"
	"	incl %ebx\n"
	"	cmpl $4, %ebx\n"
	"	jne 3b\n"
	"	incl %ecx\n"
	"	cmpl 4(%rsi), %ecx\n"
	"	jbe 2b\n"
	"	addq $8, %rsi\n"
	"	cmpl $0, 4(%rsi)\n"
	"	jne 1b\n"
	"	popq %rdi\n	popq %rsi\n"
	"	popq %rbx\n	popq %rdx\n	popq %rcx\n	popq %rax\n"
	"	iretq\n");

void guest_main(const struct pvh_info *info)
{
	(void)info;
	idt_set(GP, msrs_gp);
	ring0_call(msrs_microcode);
	if (msrs_refused != 0)
		fail("microcode cannot be loaded, not even for nothing");
	outb(PORT, 0);
	ring0_call(msrs_write);
	outb(PORT, 1);
	success();
}
