/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start of every tiny guest: from the PVH entry (32-bit, paging off, ebx =
 * hvm_start_info) to guest_main() in ring 3, with 8 GiB mapped to themselves, all
 * ports allowed, interrupts on and an IDT that is empty until idt_set().
 */
#define CODE0 0x08
#define TSS   0x10
#define DATA3 0x23
#define CODE3 0x2b

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.globl start
	.code32
start:
	lgdt gdt_pointer
	lidt idt_pointer
	movl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx /* EFER.LME */
	movl $0x100, %eax
	xorl %edx, %edx
	wrmsr
	movl $0x80000033, %eax /* PG, NE, ET, MP, PE */
	movl %eax, %cr0
	ljmp $CODE0, $1f
	.code64
1:	movl $TSS, %eax
	ltr %ax
	movl $frame, %esp
	iretq
user:
	movl %ebx, %edi
	call guest_main
	ud2

	.globl memcpy, memset
memcpy:
	movq %rdi, %rax
	movq %rdx, %rcx
	rep movsb
	ret
memset:
	movq %rdi, %r8
	movl %esi, %eax
	movq %rdx, %rcx
	rep stosb
	movq %r8, %rax
	ret

	/* Ring 0: counts the interrupt and tells the local APIC. */
	.globl interrupt_count_stub, interrupt_count
interrupt_count_stub:
	incl interrupt_count
	pushq %rax
	movl $0xfee000b0, %eax /* EOI */
	movl $0, (%rax)
	popq %rax
	iretq

	.data
	.balign 16
gdt:
	.quad 0
	.quad 0x00209b0000000000 /* ring 0 code, 64-bit */
	.word tss_end - tss - 1, tss_low
	.byte tss_middle, 0x89, 0, tss_high
	.quad 0
	.quad 0x00cff3000000ffff /* ring 3 data */
	.quad 0x0020fb0000000000 /* ring 3 code, 64-bit */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
idt_pointer:
	.word 256 * 16 - 1
	.long idt
	.balign 16
frame: /* IOPL 3 beside the I/O bitmap: not every host honours both */
	.quad user, CODE3, 0x3202, stack_top, DATA3
	.balign 16
	.globl tss
tss:
	.long 0
	.quad stack0_top
	.fill 90, 1, 0
	.word tss_bitmap - tss
tss_bitmap:
	.fill 8192, 1, 0
	.byte 0xff
tss_end:

	.section .data.pages, "aw"
	.balign 4096
pml4:
	.quad pdpt + 0x27
	.fill 511, 8, 0
pdpt:
	.set i, 0
	.rept 8
	.quad pd + i * 4096 + 0x27
	.set i, i + 1
	.endr
	.fill 504, 8, 0
pd:
	.set i, 0
	.rept 8 * 512
	/* Device memory, from 3 to 4 GiB, is not cached. */
	.if (i >= 3 * 512) && (i < 4 * 512)
	.quad i * 0x200000 + 0xff
	.else
	.quad i * 0x200000 + 0xe7
	.endif
	.set i, i + 1
	.endr

	.bss
	.balign 4096
	.skip 16384
stack_top:
	.skip 4096
stack0_top:
	.globl idt
idt:
	.skip 256 * 16
interrupt_count:
	.skip 4

	.section .note.GNU-stack, "", @progbits
