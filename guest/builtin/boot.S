/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry of the embedded guest by the PVH boot protocol: 32-bit protected mode,
 * paging off, ebx = hvm_start_info. Where KVM emulates ring 0 each instruction here
 * costs most of a microsecond, so there are as few as can be: tables are laid out by
 * the assembler or are zero already, and the rest is done in ring 3. There is no
 * IDT: an exception is a triple fault.
 */
#include "arch/layout.h"
#include "guest/builtin/paging.h"

#define SELECTOR_CODE0 0x08
#define SELECTOR_TSS   0x10
#define SELECTOR_DATA3 0x23
#define SELECTOR_CODE3 0x2b

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long boot_start

	.section .text.boot, "ax"
	.globl boot_start
	.code32
boot_start:
	/* The first bytes that anybody outside can see: an exit from here costs a fifth of one
	 * from ring 3. */
	movl $boot_hello, %esi
	movl $6, %ecx
	movl $LAYOUT_PORT_SERIAL, %edx
	rep outsb
	lgdt boot_gdt_pointer
	lidt boot_idt_pointer
	movl $(boot_pdpt + PAGING_TABLE), boot_pml4
	movl $(boot_pd + PAGING_TABLE), boot_pdpt
	movl $PAGING_LARGE, boot_pd
	/* virtio-mmio, for guest_devices() alone. */
	movl $(boot_pd_device + PAGING_TABLE), boot_pdpt + 8 * (LAYOUT_VIRTIO_MMIO >> 30)
	movl $(LAYOUT_VIRTIO_MMIO + PAGING_DEVICE), boot_pd_device + 8 * (LAYOUT_VIRTIO_MMIO >> 21 & 511)
	movl $0x220, %eax /* PAE, OSFXSR */
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx /* EFER.LME */
	movl $0x100, %eax
	xorl %edx, %edx
	wrmsr
	movl $0x80000031, %eax /* PG, NE, ET, PE */
	movl %eax, %cr0
	ljmp $SELECTOR_CODE0, $1f
	.code64
1:	movl $SELECTOR_TSS, %eax
	ltr %ax
	movl $boot_stack_top, %esp
	call guest_devices
	movl $boot_frame, %esp
	iretq

boot_user:
	movl %ebx, %edi
	call guest_start
	call guest_serve
2:	ud2
	jmp 2b

	.text
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

	.section .rodata
boot_hello:
	.ascii "virga\n"

	.data
	.balign 16
	/* Accessed bits are set, so that the CPU has nothing to write here but the TSS's busy bit. */
boot_gdt:
	.quad 0
	.quad 0x00209b0000000000 /* ring 0 code, 64-bit */
	.word boot_tss_end - boot_tss - 1, boot_tss_low
	.byte boot_tss_middle, 0x89, 0, 0
	.quad 0
	.quad 0x00cff3000000ffff /* ring 3 data */
	.quad 0x0020fb0000000000 /* ring 3 code, 64-bit */
boot_gdt_end:

boot_gdt_pointer:
	.word boot_gdt_end - boot_gdt - 1
	.long boot_gdt
boot_idt_pointer:
	.word 0
	.long 0

	/* What iretq takes: rip, cs, rflags, rsp, ss. IOPL 3 and the open I/O bitmap allow the same:
	 * some KVM hosts do not honour the one, some emulated CPUs not the other. */
	.balign 16
boot_frame:
	.quad boot_user, SELECTOR_CODE3, 0x3002, boot_stack_top, SELECTOR_DATA3

	/* Only the bitmap matters: ports up to the power registers, all allowed. */
	.balign 16
	.globl boot_tss /* guest.ld splits its address for the descriptor */
boot_tss:
	.fill 102, 1, 0
	.word boot_tss_bitmap - boot_tss
boot_tss_bitmap:
	.fill (LAYOUT_PORT_POWER / 8) + 2, 1, 0
	.byte 0xff
boot_tss_end:

	.section .bss.tables, "aw", @nobits
	.balign 4096
	.globl boot_pml4
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4096
boot_pd_device:
	.skip 4096

	/* Grows down from below the hot data into a page that is rarely reached. */
	.section .bss.stack, "aw", @nobits
	.balign 4096
	.skip 4096 + 1408
	.globl boot_stack_top
boot_stack_top:

	.section .note.GNU-stack, "", @progbits
