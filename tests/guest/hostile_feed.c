/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues that the device itself fills. RX and TX share an available ring, and an RX buffer lies
 * on its index: each lap of the TX ring makes the device write a CREDIT_UPDATE whose fwd_cnt
 * makes another lap available, for as long as the device looks after one kick.
 */
#include "devices/channel/protocol.h"
#include "tests/guest/driver.h"

#define LAP      128u /* chains: half of them data, half packets that are refused */
#define RINGSIZE 256u

static struct descriptor rx_desc[RINGSIZE], tx_desc[RINGSIZE], scatter[3], pairs[LAP / 2][2];
static volatile struct {
	uint16_t flags, idx, ring[RINGSIZE], used_event;
} avail __attribute__((aligned(64)));
static volatile struct {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[RINGSIZE];
	uint16_t avail_event;
} used[2] __attribute__((aligned(64)));
static struct packet data_packet, refused;
static uint8_t frame[LAP], trash[64];

static void ring_start(uint32_t q, const void *desc)
{
	mmio_write(MMIO_QUEUE_SELECT, q);
	mmio_write(MMIO_QUEUE_READY, 0);
	mmio_write(MMIO_QUEUE_SIZE, RINGSIZE);
	mmio_write64(MMIO_DESC, (uint64_t)desc);
	mmio_write64(MMIO_AVAIL, (uint64_t)&avail);
	mmio_write64(MMIO_USED, (uint64_t)&used[q]);
	mmio_write(MMIO_QUEUE_READY, 1);
}

/* An open channel and a first frame in it, of a lap's bytes. */
static void open_channel(void)
{
	struct channel_header *header = (void *)frame;

	*header = (struct channel_header){ .magic = CHANNEL_MAGIC,
					   .version = CHANNEL_VERSION,
					   .type = 77,
					   .length = LAP - sizeof(*header) };
	device_start(1ull << 28);
	rx_offer_all();
	packet_send(1, CHANNEL_PORT, 0);
	memcpy(packet.data, frame, LAP / 2);
	packet_send(5, CHANNEL_PORT, LAP / 2);
	memset(packet.data, 0, LAP / 2);
	packet_send(5, CHANNEL_PORT, LAP / 2);
}

static void make_lap(void)
{
	data_packet = packet;
	data_packet.len = 2;
	data_packet.buf_alloc = 2; /* so that every byte is worth a CREDIT_UPDATE */
	refused = data_packet;
	refused.dst_port = 9;
	scatter[0] = (struct descriptor){ (uint64_t)trash, 40, F_WRITE | F_NEXT, 1 };
	scatter[1] = (struct descriptor){ (uint64_t)&avail.idx, 2, F_WRITE | F_NEXT, 2 };
	scatter[2] = (struct descriptor){ (uint64_t)trash, 64, F_WRITE, 0 };
	for (uint32_t i = 0; i < LAP / 2; i++) {
		pairs[i][0] =
			(struct descriptor){ (uint64_t)&data_packet, PACKET_HEADER, F_NEXT, 1 };
		pairs[i][1] = (struct descriptor){ (uint64_t)(frame + 2 * i), 2, 0, 0 };
		tx_desc[i] =
			(struct descriptor){ (uint64_t)pairs[i], sizeof(pairs[i]), F_INDIRECT, 0 };
		tx_desc[LAP / 2 + i] =
			(struct descriptor){ (uint64_t)&refused, PACKET_HEADER, 0, 0 };
		/* Too short for a packet: given back. */
		rx_desc[i] = (struct descriptor){ (uint64_t)trash, 4, F_WRITE, 0 };
		rx_desc[LAP / 2 + i] =
			(struct descriptor){ (uint64_t)trash, sizeof(trash), F_WRITE, 0 };
	}
	rx_desc[LAP / 2 - 1] =
		(struct descriptor){ (uint64_t)scatter, sizeof(scatter), F_INDIRECT, 0 };
	for (uint32_t i = 0; i < RINGSIZE; i++)
		avail.ring[i] = (uint16_t)(i % LAP);
}

void guest_main(const struct pvh_info *info)
{
	(void)info;
	for (base = LAYOUT_VIRTIO_MMIO; *mmio32(base + MMIO_DEVICE) != 19;)
		base += LAYOUT_VIRTIO_STRIDE;
	open_channel();
	make_lap();
	ring_start(RX, rx_desc);
	ring_start(TX, tx_desc);
	print("feeding\n");
	avail.idx = LAP;
	mmio_write(MMIO_NOTIFY, TX);
	for (;;)
		spin_ms(1000);
}
