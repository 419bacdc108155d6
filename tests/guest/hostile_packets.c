/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver whose vsock packets and channel frames break every rule (virtio 1.2, 5.10.6). A name
 * on the command line runs one attack, none runs all.
 */
#include "devices/channel/protocol.h"
#include "tests/guest/driver.h"

static void attack_header(void)
{
	device_start(0);
	rx_offer_all();
	for (uint32_t i = 0; i < 16; i++)
		packet_send((uint16_t)i, 1 + i * 77, 0);
	for (uint16_t op = 0; op < 300; op = (uint16_t)(op + 7))
		packet_send(op, CHANNEL_PORT, 4);
	packet_send(5, CHANNEL_PORT, 0xffffffff);
	packet_send(5, CHANNEL_PORT, 0x10000);
	for (unsigned i = 0; i < sizeof(packet); i++) {
		packet_send(1, 9, 0);
		((uint8_t *)&packet)[i] = (uint8_t)(0x80 + i);
		offer(TX, 0);
	}
}

static void attack_credit(void)
{
	static const uint32_t values[] = { 0, 1, 0x7fffffff, 0xffffffff };

	device_start(0);
	rx_offer_all();
	packet_send(1, CHANNEL_PORT, 0);
	for (unsigned i = 0; i < 16; i++) {
		packet.op = i & 1 ? 6 : 7;
		packet.buf_alloc = values[i % 4];
		packet.fwd_cnt = values[i / 4];
		packet.len = 0;
		describe(TX, 0, (uint64_t)&packet, PACKET_HEADER, 0);
		offer(TX, 0);
	}
	for (unsigned i = 0; i < 3000; i++)
		packet_send(7, CHANNEL_PORT, 0);
}

static void attack_flood(void)
{
	device_start(0);
	rx_offer_all();
	for (uint32_t i = 0; i < 3000; i++) {
		packet_send(1, 1024 + i, 0);
		packet.src_port = 6000 + i;
		offer(TX, 0);
	}
}

/* Connections that are given up before the supervisor has answered, faster than it can. */
static void attack_give_up(void)
{
	static struct packet pair[2];

	device_start(0);
	rx_offer_all();
	packet_send(1, 9, 0);
	for (uint32_t i = 0; i < 2; i++) {
		pair[i] = packet;
		pair[i].op = i ? 3 : 1;
		describe(TX, (uint16_t)i, (uint64_t)&pair[i], PACKET_HEADER, 0);
	}
	for (uint32_t i = 0; i < 100000; i++) {
		pair[0].src_port = pair[1].src_port = 6000 + i / (SIZE / 2);
		queues[TX].avail.ring[queues[TX].avail.idx % SIZE] = i % 2;
		queues[TX].avail.idx++;
		queues[RX].avail.idx = (uint16_t)(queues[RX].used.idx + SIZE);
		if (i % SIZE == SIZE - 1)
			mmio_write(MMIO_NOTIFY, TX);
	}
}

/* The function channel, opened as it should be, then garbage in it. */
static void attack_channel(void)
{
	static const struct channel_header good = { .magic = CHANNEL_MAGIC,
						    .version = CHANNEL_VERSION };
	struct channel_header header;

	for (unsigned i = 0; i < 6; i++) {
		device_start(0);
		rx_offer_all();
		packet_send(1, CHANNEL_PORT, 0);
		packet_send(1, CHANNEL_PORT, 0); /* twice from the same port */
		header = good;
		header.type = i == 0 ? 200 : CHANNEL_RESPONSE;
		header.magic ^= i == 1;
		header.version = i == 2 ? 9 : 1;
		header.length = i == 3 ? 0xffffffff : i == 4 ? CHANNEL_PAYLOAD_MAX + 1 : 8;
		header.flags = i == 5 ? 0xff : 0;
		memcpy(packet.data, &header, sizeof(header));
		packet_send(5, CHANNEL_PORT, 40);
		packet_send(5, CHANNEL_PORT, 84);
		packet_send(4, CHANNEL_PORT, 0);
		packet_send(3, CHANNEL_PORT, 0);
	}
}

static const struct attack attacks[] = {
	{ "header", attack_header },   { "credit", attack_credit },   { "flood", attack_flood },
	{ "give_up", attack_give_up }, { "channel", attack_channel },
};

void guest_main(const struct pvh_info *info)
{
	attacks_run(info, attacks, sizeof(attacks) / sizeof(attacks[0]));
}
