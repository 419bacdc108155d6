/* SPDX-License-Identifier: Apache-2.0 */
/* Never leaves its loop: only a signal can end it. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	for (;;)
		__builtin_ia32_pause();
}
