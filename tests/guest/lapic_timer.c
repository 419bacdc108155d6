/* SPDX-License-Identifier: Apache-2.0 */
/* One-shot interrupts of the local APIC's timer, and its counter. */
#include "tests/guest/guest.h"

#define VECTOR  0x60
#define WAIT_MS 2000

void guest_main(const struct pvh_info *info)
{
	uint32_t seen;

	(void)info;
	idt_set(VECTOR, interrupt_count_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1: KVM's bus runs at 1 GHz */
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t start = rdtsc(), us;

		seen = interrupt_count;
		lapic_write(LAPIC_TIMER_INITIAL, 2000000);
		if (lapic_read(LAPIC_TIMER_CURRENT) == 0)
			fail("the counter does not count");
		if (!wait_change(&interrupt_count, seen, WAIT_MS))
			fail("no interrupt");
		us = (rdtsc() - start) * 1000 / identity()->tsc_khz;
		if (us < 1900)
			fail("it came early");
	}
	seen = interrupt_count;
	spin_ms(10);
	if (interrupt_count != seen)
		fail("one shot came twice");
	success();
}
