/* SPDX-License-Identifier: Apache-2.0 */
/* A level-triggered interrupt whose cause stays, again after each EOI; each is told to a port. */
#include "tests/guest/guest.h"

#define VECTOR 0x58

/* Ring 0. */
void level_stub(void);
__asm__(".text\n"
	"level_stub:\n"
	"	push %rax\n	push %rdx\n"
	"	mov $0x700, %edx\n"
	"	out %al, %dx\n"
	"	mov $0xfee000b0, %eax\n" /* EOI */
	"	movl $0, (%rax)\n"
	"	pop %rdx\n	pop %rax\n"
	"	iretq\n");

void guest_main(const struct pvh_info *info)
{
	(void)info;
	idt_set(VECTOR, level_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	serial_write(SERIAL_MCR, 8); /* OUT2: the line is connected */
	ioapic_route(LAYOUT_SERIAL_GSI, VECTOR | IOAPIC_LEVEL);
	serial_write(SERIAL_IER, 2);
	for (;;)
		__builtin_ia32_pause();
}
