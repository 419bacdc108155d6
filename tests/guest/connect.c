/* SPDX-License-Identifier: Apache-2.0 */
/* Connects to port 5000 of the host, where somebody listens, and to 5001, where nobody does. */
#include "tests/guest/driver.h"

#define RESPONSE 2
#define RST      3
#define WAIT_MS  10000

static void expect_answer(uint16_t i, uint32_t port, uint16_t op)
{
	const volatile struct packet *answer = (void *)buffer[i];

	packet_send(1, port, 0);
	for (unsigned ms = 0; queues[RX].used.idx == i && ms < WAIT_MS; ms++)
		spin_ms(1);
	if (queues[RX].used.idx == i)
		fail("no answer");
	if (answer->src_port != port || answer->op != op)
		fail("another answer");
}

void guest_main(const struct pvh_info *info)
{
	(void)info;
	for (base = LAYOUT_VIRTIO_MMIO; *mmio32(base + MMIO_DEVICE) != 19;)
		base += LAYOUT_VIRTIO_STRIDE;
	device_start(0);
	rx_offer_all();
	expect_answer(0, 5000, RESPONSE);
	expect_answer(1, 5001, RST);
	success();
}
