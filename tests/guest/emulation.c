/* SPDX-License-Identifier: Apache-2.0 */
/* Ring 0 code where there is no memory: KVM can neither run nor emulate it. */
#include "tests/guest/guest.h"

#define VECTOR  0x40
#define NOWHERE 0xe0000000u /* no device, no RAM */

void guest_main(const struct pvh_info *info)
{
	(void)info;
	print("SUCCESS\n");
	ring0_call((void (*)(void))(uint64_t)NOWHERE);
	fail("code ran where no memory is");
}
