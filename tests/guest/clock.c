/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says the time when it is asked by a byte on the serial port: `w` is answered by the wall clock in ns,
 * from the identity region and the TSC; `t` arms the local APIC's timer for 100 ms, and when that
 * has come the ns are printed that have passed by the TSC; `q` ends it. The TSC must never go back.
 */
#include "tests/guest/guest.h"

#define VECTOR   0x62
#define TIMER_NS 100000000u

static uint64_t clock_ns(uint64_t ticks)
{
	uint32_t khz = identity()->tsc_khz;

	return ticks / khz * 1000000 + ticks % khz * 1000000 / khz;
}

static void say(const char *what, uint64_t ns)
{
	print(what);
	print_number(ns);
	print("\n");
}

void guest_main(const struct pvh_info *info)
{
	uint64_t last = rdtsc(), armed = last;
	uint32_t seen = 0;

	(void)info;
	idt_set(VECTOR, interrupt_count_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1: KVM's bus runs at 1 GHz */
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	serial_write(SERIAL_FCR, 1);
	print("ready\n");
	for (;;) {
		uint64_t now = rdtsc();

		if (now < last)
			fail("the TSC went back");
		last = now;
		if (interrupt_count != seen) {
			seen++;
			say("timer ", clock_ns(now - armed));
		}
		if ((serial_read(SERIAL_LSR) & 1) == 0)
			continue;
		switch (serial_read(SERIAL_DATA)) {
		case 'w':
			now = rdtsc() - identity()->tsc;
			say("wall ", identity()->wall_clock_ns + clock_ns(now));
			break;
		case 't':
			armed = rdtsc();
			lapic_write(LAPIC_TIMER_INITIAL, TIMER_NS);
			print("armed\n");
			break;
		case 'q':
			success();
		}
	}
}
