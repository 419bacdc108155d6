/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where boot.S would go on to ring 3 the guest stays in ring 0; exceptions, and a visit to ring 3.
 */
#include "tests/guest/ring0/selectors.h"

	.text
	/* In the place of guest_devices(), which boot.S calls last in ring 0. ebx: hvm_start_info. */
	.globl __wrap_guest_devices
__wrap_guest_devices:
	xorl %eax, %eax
	movl %eax, %ss /* what IRET restores: there is no data segment of ring 0 in the GDT */
	movl %ebx, %edi
	call ring0_main
	ud2

	/* Of the same ring: the stack pointer of before lies in the frame. */
	.globl fault_stub, nmi_stub
fault_stub:
	incl fault_count
	movq 32(%rsp), %rsp
	jmp *fault_resume

	/* Back to where it came, flags and all, but not by IRET. */
nmi_stub:
	incl nmi_count
	movq %rax, nmi_rax
	movq (%rsp), %rax
	movq %rax, nmi_rip
	pushq 16(%rsp)
	popfq
	movq 24(%rsp), %rsp
	movq nmi_rax, %rax
	jmp *nmi_rip

	.globl timer_stub
timer_stub:
	incl timer_count
	pushq %rax
	movl $0xfee000b0, %eax /* EOI */
	movl $0, (%rax)
	popq %rax
	iretq

	.globl ring0_iret
ring0_iret:
	movq %rsp, %rax
	pushq $0
	pushq %rax
	pushfq
	pushq $SELECTOR_CODE0
	pushq $1f
	iretq
1:	ret

	.globl ring3_call, ring3_back
ring3_call:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, ring3_stack
	movq %rdi, %rbx
	movq %rsi, %rdi
	pushq $SELECTOR_DATA3
	pushq $ring3_stack_top
	pushq $2
	pushq $SELECTOR_CODE3
	pushq $1f
	iretq
1:	call *%rbx
	ud2
ring3_back:
	movq ring3_stack, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.bss
	.balign 16
	.globl fault_resume, fault_count, nmi_count, timer_count, ring0_stack_top
fault_resume:
	.skip 8
nmi_rax:
	.skip 8
nmi_rip:
	.skip 8
ring3_stack:
	.skip 8
fault_count:
	.skip 4
nmi_count:
	.skip 4
timer_count:
	.skip 4
	.balign 16
	.skip 1024
ring0_stack_top:
	.skip 256
ring3_stack_top:

	.section .note.GNU-stack, "", @progbits
