/* SPDX-License-Identifier: Apache-2.0 */
/* Prints without end, or bytes=N bytes: nobody may be held up by it. */
#include "tests/guest/guest.h"

void guest_main(const struct pvh_info *info)
{
	uint64_t bytes = option_number(info, "bytes", 0), sent = 0;
	static const char line[] =
		"0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop\n";

	while (bytes == 0 || sent < bytes) {
		print(line);
		sent += sizeof(line) - 1;
	}
	success();
}
