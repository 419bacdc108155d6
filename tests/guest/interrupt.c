/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port's transmitter interrupt through the I/O APIC, edge and level. */
#include "tests/guest/guest.h"

#define VECTOR_EDGE  0x50
#define VECTOR_LEVEL 0x58
#define WAIT_MS      2000
#define LEVEL_COUNT  3

static void expect_interrupt(const char *what)
{
	uint32_t seen = interrupt_count;

	serial_write(SERIAL_DATA, '.');
	if (!wait_change(&interrupt_count, seen, WAIT_MS))
		fail(what);
	if ((serial_read(SERIAL_IIR) & 0xf) != 2)
		fail("the cause is not an empty transmitter");
}

static void edge_check(void)
{
	uint32_t seen = interrupt_count;

	ioapic_route(LAYOUT_SERIAL_GSI, VECTOR_EDGE);
	serial_write(SERIAL_IER, 2);
	if (!wait_change(&interrupt_count, seen, WAIT_MS))
		fail("no interrupt when it was enabled");
	if ((serial_read(SERIAL_IIR) & 0xf) != 2)
		fail("the cause is not an empty transmitter");
	for (unsigned i = 0; i < 3; i++)
		expect_interrupt("no interrupt after a byte");
	seen = interrupt_count;
	spin_ms(5);
	if (interrupt_count != seen)
		fail("an edge came more than once");
	serial_write(SERIAL_IER, 0);
}

static void masked_check(void)
{
	uint32_t seen;

	ioapic_route(LAYOUT_SERIAL_GSI, VECTOR_EDGE | IOAPIC_MASKED);
	seen = interrupt_count;
	serial_write(SERIAL_IER, 2);
	spin_ms(5);
	if (interrupt_count != seen)
		fail("a masked pin interrupted");
	serial_read(SERIAL_IIR);
	serial_write(SERIAL_IER, 0);
}

/*
 * Ring 0: takes the cause away (reads IIR) at the third interrupt only. Ring 3 may not get a single
 * instruction done before that.
 */
void level_stub(void);
__asm__(".text\n"
	"level_stub:\n"
	"	push %rax\n	push %rdx\n"
	"	incl interrupt_count\n"
	"	decl level_left\n"
	"	jnz 1f\n"
	"	mov $0x3fa, %edx\n"
	"	in %dx, %al\n"
	"1:	mov $0xfee000b0, %eax\n" /* EOI */
	"	movl $0, (%rax)\n"
	"	pop %rdx\n	pop %rax\n"
	"	iretq\n");

static volatile uint32_t level_left __attribute__((used)) = LEVEL_COUNT;

/* The cause stays until IIR is read: a level interrupts again after each EOI, then no more. */
static void level_check(void)
{
	uint32_t seen = interrupt_count;

	ioapic_route(LAYOUT_SERIAL_GSI, VECTOR_LEVEL | IOAPIC_LEVEL);
	serial_write(SERIAL_IER, 2);
	if (!wait_change(&interrupt_count, seen, WAIT_MS))
		fail("no level interrupt");
	spin_ms(5);
	if (interrupt_count != seen + LEVEL_COUNT)
		fail("a level did not come again after EOI until its cause was gone");
	if ((ioapic_read(0x10 + 2 * LAYOUT_SERIAL_GSI) & 1u << 14) != 0)
		fail("Remote IRR stays after EOI");
	level_left = 1;
	serial_write(SERIAL_DATA, '.');
	spin_ms(5);
	if (interrupt_count != seen + LEVEL_COUNT + 1)
		fail("the next level did not come once");
	serial_write(SERIAL_IER, 0);
}

void guest_main(const struct pvh_info *info)
{
	(void)info;
	idt_set(VECTOR_EDGE, interrupt_count_stub);
	idt_set(VECTOR_LEVEL, level_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	serial_write(SERIAL_MCR, 8); /* OUT2: the line is connected */
	if ((ioapic_read(1) >> 16 & 0xff) != 23)
		fail("the I/O APIC does not have 24 pins");
	print("edge\n");
	edge_check();
	print("masked\n");
	masked_check();
	print("level\n");
	level_check();
	success();
}
