/* SPDX-License-Identifier: Apache-2.0 */
/* A periodic local APIC timer with interrupts off: armed, and pending in the IRR, for ever. */
#include "tests/guest/guest.h"

#define VECTOR         0x61
#define TIMER_PERIODIC (1u << 17)

/* Ring 0, with rflags of ring 3 changed on its stack: IF off. */
void interrupts_off(void);
__asm__(".text\n"
	"interrupts_off:\n"
	"	addq $2, (%rsp)\n" /* past the ud2 of ring0_call() */
	"	andq $~0x200, 16(%rsp)\n"
	"	iretq\n");

void guest_main(const struct pvh_info *info)
{
	(void)info;
	idt_set(VECTOR, interrupt_count_stub);
	ring0_call(interrupts_off);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER, VECTOR | TIMER_PERIODIC);
	lapic_write(LAPIC_TIMER_INITIAL, 1000000);
	print("SUCCESS\n");
	for (;;)
		if (interrupt_count)
			fail("an interrupt came with interrupts off");
}
