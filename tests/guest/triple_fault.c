/* SPDX-License-Identifier: Apache-2.0 */
/* An exception without a handler. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	__asm__ volatile("ud2");
	fail("an undefined instruction went unnoticed");
}
