/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that polls the serial port and sends every byte back, after one that says it does. Entered
 * by PVH in 32-bit protected mode; touches no memory.
 */
	.code32
	.section .text
	.globl _start
_start:
	movw	$0x3f8, %dx
	movb	$'r', %al
	outb	%al, %dx
1:	movb	$0xfd, %dl		/* the line status */
2:	inb	%dx, %al
	testb	$1, %al
	jz	2b
	movb	$0xf8, %dl
	inb	%dx, %al
	outb	%al, %dx
	jmp	1b

	.section .note.Xen, "a", @note
	.long	4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	_start
	.section .note.GNU-stack, "", @progbits
