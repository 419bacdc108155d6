/* SPDX-License-Identifier: Apache-2.0 */
/* Waits in the park port for ever, as a guest does that nobody asks anything. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	for (;;)
		inb(LAYOUT_PORT_PARK);
}
