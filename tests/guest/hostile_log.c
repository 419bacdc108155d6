/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs over the function channel what a terminal would obey and what looks like a sentence of
 * virga; with `lines=N` as many short lines besides.
 */
#include "devices/channel/protocol.h"
#include "tests/guest/driver.h"

static void log_send(const char *text)
{
	struct channel_header header = {
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = CHANNEL_LOG,
	};

	while (text[header.length] && sizeof(header) + header.length < sizeof(packet.data)) {
		packet.data[sizeof(header) + header.length] = (uint8_t)text[header.length];
		header.length++;
	}
	memcpy(packet.data, &header, sizeof(header));
	packet_send(5, CHANNEL_PORT, (uint32_t)sizeof(header) + header.length);
}

void guest_main(const struct pvh_info *info)
{
	uint64_t lines = option_number(info, "lines", 0);

	base = LAYOUT_VIRTIO_MMIO;
	while (*mmio32(base + MMIO_DEVICE) != 19)
		base += LAYOUT_VIRTIO_STRIDE;
	device_start(0);
	rx_offer_all();
	packet_send(1, CHANNEL_PORT, 0);
	log_send("\033]0;owned\007\nvirga: forged sentence");
	for (uint64_t i = 0; i < lines; i += 10)
		log_send("0\n1\n2\n3\n4\n5\n6\n7\n8\n9");
	success();
}
