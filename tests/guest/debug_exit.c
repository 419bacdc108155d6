/* SPDX-License-Identifier: Apache-2.0 */
/* Ends with the byte status=N of the command line. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	print("SUCCESS\n");
	end((uint8_t)option_number(info, "status", 42));
}
