/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for other VMMs, which have no function channel: prints bytes on the serial
 * port without end, so that the first one after a restore says that the guest runs again, with
 * no request to wait for. Entered by PVH in 32-bit protected mode; touches no memory.
 */
	.code32
	.section .text
	.globl _start
_start:
	movw	$0x3f8, %dx
	movb	$'t', %al
1:	outb	%al, %dx
	jmp	1b

	.section .note.Xen, "a", @note
	.long	4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	_start
	.section .note.GNU-stack, "", @progbits
