/* SPDX-License-Identifier: Apache-2.0 */
/* Ports and addresses that nobody answers read as all ones and take any write. */
#include "tests/guest/guest.h"

#define PORT    0x1234
#define ADDRESS 0xd0100000u

void guest_main(const struct pvh_info *info)
{
	(void)info;
	if (inb(PORT) != 0xff || inw(PORT) != 0xffff || inl(PORT) != 0xffffffff)
		fail("port");
	outb(PORT, 0x55);
	if (inb(PORT) != 0xff)
		fail("port after a write");
	if (*(volatile uint8_t *)ADDRESS != 0xff || *(volatile uint16_t *)ADDRESS != 0xffff ||
	    *(volatile uint32_t *)ADDRESS != 0xffffffff || *(volatile uint64_t *)ADDRESS != ~0ull)
		fail("address");
	*(volatile uint64_t *)ADDRESS = 1;
	*(volatile uint8_t *)(ADDRESS + 3) = 1;
	if (*(volatile uint64_t *)ADDRESS != ~0ull)
		fail("address after a write");
	/* The last bytes of a claimed range, and an access that runs over its end. */
	if (inl(LAYOUT_PORT_KEYBOARD) != 0xffffffff)
		fail("an access that is wider than its range");
	success();
}
