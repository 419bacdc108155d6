/* SPDX-License-Identifier: Apache-2.0 */
/* Sends back what it receives, by polling or with the word `interrupt`; `q` ends it. */
#include "tests/guest/guest.h"

#define VECTOR 0x50

void guest_main(const struct pvh_info *info)
{
	bool by_interrupt = option(info, "interrupt");
	uint32_t seen = interrupt_count;

	serial_write(SERIAL_FCR, 1);
	serial_write(SERIAL_MCR, 8);
	if (by_interrupt) {
		idt_set(VECTOR, interrupt_count_stub);
		lapic_write(LAPIC_SPURIOUS, 0x1ff);
		ioapic_route(LAYOUT_SERIAL_GSI, VECTOR);
		serial_write(SERIAL_IER, 1);
	}
	print("ready\n");
	for (;;) {
		if (by_interrupt && !wait_change(&interrupt_count, seen, 10000))
			fail("no interrupt for ten seconds");
		seen = interrupt_count;
		while ((serial_read(SERIAL_LSR) & 1) != 0) {
			uint8_t byte = serial_read(SERIAL_DATA);

			serial_write(SERIAL_DATA, byte);
			if (byte == 'q')
				success();
		}
	}
}
