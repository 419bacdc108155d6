/* SPDX-License-Identifier: Apache-2.0 */
/* Prints a counter every period_ms=N (1000), `ticks=N` (3) times or for ever (0), and watches
that neither the TSC nor memory goes back: for a machine that is saved and goes on. */
#include "tests/guest/guest.h"

#define HISTORY 4096u

static volatile uint64_t history[HISTORY];

void guest_main(const struct pvh_info *info)
{
	uint64_t period = option_number(info, "period_ms", 1000);
	uint64_t ticks = option_number(info, "ticks", 3), last = rdtsc();

	for (uint64_t tick = 1; ticks == 0 || tick <= ticks; tick++) {
		uint64_t next = last + period * identity()->tsc_khz, seen = last;

		while (seen < next) {
			uint64_t now = rdtsc();

			if (now < seen)
				fail("the TSC went back");
			seen = now;
			__builtin_ia32_pause();
		}
		last = next;
		history[tick % HISTORY] = tick;
		if (tick > 1 && history[(tick - 1) % HISTORY] != tick - 1)
			fail("memory forgot the last tick");
		print("tick ");
		print_number(tick);
		print("\n");
	}
	success();
}
