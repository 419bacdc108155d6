/* SPDX-License-Identifier: Apache-2.0 */
/* Listens to the power button once a byte has come on the serial port, and says when it is pressed. */
#include "tests/guest/guest.h"

#define VECTOR  0x50
#define WAIT_MS 60000
#define PRESSES 2

void guest_main(const struct pvh_info *info)
{
	uint32_t seen = interrupt_count;

	(void)info;
	serial_write(SERIAL_FCR, 1);
	idt_set(VECTOR, interrupt_count_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	print("deaf\n");
	while ((serial_read(SERIAL_LSR) & 1) == 0)
		;
	if (interrupt_count != seen)
		fail("a masked button interrupts");
	ioapic_route(LAYOUT_POWER_GSI, VECTOR);
	print("listening\n");
	for (unsigned i = 1; i <= PRESSES; i++) {
		if (!wait_change(&interrupt_count, seen, WAIT_MS))
			fail("no interrupt for a minute");
		spin_ms(5);
		if (interrupt_count != ++seen)
			fail("a press came more than once");
		print("pressed\n");
	}
	print("SUCCESS\n");
	outb(LAYOUT_PORT_POWER, LAYOUT_POWER_SLEEP_TYPE_S5 << 2 | 0x20);
	fail("the machine is still on");
}
