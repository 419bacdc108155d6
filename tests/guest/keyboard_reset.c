/* SPDX-License-Identifier: Apache-2.0 */
/* Resets by the keyboard controller's pulse command. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	outb(LAYOUT_PORT_KEYBOARD, 0xae);
	outb(LAYOUT_PORT_KEYBOARD, 0xfe);
	fail("the machine is still on");
}
