/* SPDX-License-Identifier: Apache-2.0 */
/* Resets by the ACPI reset register. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	outb(LAYOUT_PORT_POWER, 4 << 2 | 0x20); /* S4 is not there: nothing happens */
	outb(LAYOUT_PORT_POWER + 2, 0);         /* nor does another value reset */
	outb(LAYOUT_PORT_POWER + 2, 1);
	fail("the machine is still on");
}
