/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vsock driver that breaks every rule of the rings (virtio 1.2, 2.7) and of the packets in
 * them. A name on the command line runs one, none all; SUCCESS means that the machine is still there
 * and that its device can be reset.
 */
#include "devices/channel_protocol.h"
#include "tests/guest/guest.h"

#define SIZE       16u
#define F_NEXT     1u
#define F_WRITE    2u
#define F_INDIRECT 4u
#define NOWHERE    0xb0000000ull /* below the hole, above this machine's RAM */

enum mmio_register {
	MMIO_DEVICE = 0x08,
	MMIO_FEATURES_SELECT = 0x14,
	MMIO_DRIVER_FEATURES = 0x20,
	MMIO_DRIVER_FEATURES_SELECT = 0x24,
	MMIO_QUEUE_SELECT = 0x30,
	MMIO_QUEUE_SIZE = 0x38,
	MMIO_QUEUE_READY = 0x44,
	MMIO_NOTIFY = 0x50,
	MMIO_INTERRUPT_ACK = 0x64,
	MMIO_STATUS = 0x70,
	MMIO_DESC = 0x80,
	MMIO_AVAIL = 0x90,
	MMIO_USED = 0xa0,
};

enum { RX, TX, EVENT, QUEUES };

struct descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct queue {
	struct descriptor desc[SIZE];
	struct {
		uint16_t flags, idx, ring[SIZE], used_event;
	} avail;
	struct {
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[SIZE];
		uint16_t avail_event;
	} used;
} __attribute__((aligned(64)));

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
	uint8_t data[84];
} __attribute__((packed));

#define PACKET_HEADER 44u

static volatile struct queue queues[QUEUES];
static struct descriptor table[32];
static struct packet packet;
static uint8_t buffer[SIZE][256];
static uint64_t base;

static void mmio_write(uint32_t reg, uint32_t value)
{
	*mmio32(base + reg) = value;
}

static void mmio_write64(uint32_t reg, uint64_t value)
{
	mmio_write(reg, (uint32_t)value);
	mmio_write(reg + 4, (uint32_t)(value >> 32));
}

/* --- A driver as it should be, for the attacks to bend */

static void device_begin(uint64_t features)
{
	mmio_write(MMIO_STATUS, 0);
	mmio_write(MMIO_STATUS, 3);
	mmio_write(MMIO_DRIVER_FEATURES_SELECT, 0);
	mmio_write(MMIO_DRIVER_FEATURES, (uint32_t)features);
	mmio_write(MMIO_DRIVER_FEATURES_SELECT, 1);
	mmio_write(MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32) | 1);
	mmio_write(MMIO_STATUS, 11);
	for (unsigned i = 0; i < sizeof(queues); i++)
		((volatile uint8_t *)queues)[i] = 0;
}

static void queue_start(uint32_t q)
{
	mmio_write(MMIO_QUEUE_SELECT, q);
	mmio_write(MMIO_QUEUE_SIZE, SIZE);
	mmio_write64(MMIO_DESC, (uint64_t)queues[q].desc);
	mmio_write64(MMIO_AVAIL, (uint64_t)&queues[q].avail);
	mmio_write64(MMIO_USED, (uint64_t)&queues[q].used);
	mmio_write(MMIO_QUEUE_READY, 1);
}

static void device_start(uint64_t features)
{
	device_begin(features);
	for (uint32_t q = 0; q < QUEUES; q++)
		queue_start(q);
	mmio_write(MMIO_STATUS, 15);
}

static void offer(uint32_t q, uint16_t head)
{
	volatile struct queue *queue = &queues[q];

	queue->avail.ring[queue->avail.idx % SIZE] = head;
	queue->avail.idx++;
	mmio_write(MMIO_NOTIFY, q);
}

static void describe(uint32_t q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags)
{
	queues[q].desc[i] = (struct descriptor){ addr, len, flags, (uint16_t)(i + 1) };
}

static void rx_offer_all(void)
{
	for (uint16_t i = 0; i < SIZE; i++) {
		describe(RX, i, (uint64_t)buffer[i], sizeof(buffer[i]), F_WRITE);
		offer(RX, i);
	}
}

static void packet_send(uint16_t op, uint32_t port, uint32_t len)
{
	packet.src_cid = 3;
	packet.dst_cid = 2;
	packet.src_port = 5000;
	packet.dst_port = port;
	packet.len = len;
	packet.type = 1;
	packet.op = op;
	packet.buf_alloc = 65536;
	describe(TX, 0, (uint64_t)&packet, PACKET_HEADER + (len < 84 ? len : 84), 0);
	offer(TX, 0);
}

/* --- Attacks on the rings */

static void attack_registers(void)
{
	for (uint32_t reg = 0; reg < 0x200; reg += 4) {
		volatile uint8_t *bytes = (volatile uint8_t *)(base + reg);

		mmio_write(reg, 0xffffffff);
		(void)*mmio32(base + reg);
		(void)bytes[1];
		bytes[2] = 0x5a;
		(void)*(volatile uint16_t *)(bytes + 2);
		*(volatile uint64_t *)(base + reg) = ~0ull;
		(void)*(volatile uint64_t *)(base + reg);
	}
}

static void attack_status(void)
{
	mmio_write(MMIO_STATUS, 0);
	mmio_write(MMIO_STATUS, 4);
	mmio_write(MMIO_NOTIFY, TX);
	mmio_write(MMIO_STATUS, 0);
	device_begin(~0ull); /* features that were never offered */
	mmio_write(MMIO_STATUS, 15);
	mmio_write(MMIO_NOTIFY, TX);
	for (uint32_t i = 0; i < 256; i++)
		mmio_write(MMIO_STATUS, i);
}

static void attack_queue_size(void)
{
	static const uint32_t sizes[] = { 0, 3, 0x8000, 0x10000, 0xffffffff };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		device_begin(0);
		queue_start(TX);
		mmio_write(MMIO_QUEUE_READY, 0);
		mmio_write(MMIO_QUEUE_SIZE, sizes[i]);
		mmio_write(MMIO_QUEUE_READY, 1);
		mmio_write(MMIO_STATUS, 15);
		offer(TX, 0);
	}
	mmio_write(MMIO_QUEUE_SELECT, 0xffffffff);
	mmio_write(MMIO_QUEUE_READY, 1);
	mmio_write(MMIO_NOTIFY, 0xffffffff);
	mmio_write(MMIO_NOTIFY, 3);
}

static void attack_queue_address(void)
{
	static const uint64_t places[] = { NOWHERE,    ~0ull,
					   ~0ull - 63, 0x7ffffffffffff000,
					   1,          LAYOUT_VIRTIO_MMIO,
					   0xbffffff8, 0xfffffff0 };

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		for (uint32_t reg = MMIO_DESC; reg <= MMIO_USED; reg += 16) {
			device_begin(0);
			for (uint32_t q = 0; q < QUEUES; q++) {
				queue_start(q);
				mmio_write(MMIO_QUEUE_READY, 0);
				mmio_write64(reg, places[i]);
				mmio_write(MMIO_QUEUE_READY, 1);
			}
			mmio_write(MMIO_STATUS, 15);
			rx_offer_all();
			packet_send(1, CHANNEL_PORT, 0);
		}
	}
}

static void attack_index(void)
{
	static const uint16_t jumps[] = { SIZE + 1, 1000, 0x7fff, 0xffff };

	for (unsigned i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		for (uint32_t q = 0; q < QUEUES; q++) {
			device_start(0);
			queues[q].avail.idx = jumps[i];
			mmio_write(MMIO_NOTIFY, q);
		}
	}
}

static void attack_head(void)
{
	for (uint32_t q = 0; q < QUEUES; q++) {
		device_start(0);
		offer(q, SIZE);
		device_start(0);
		offer(q, 0xffff);
	}
}

static void attack_loop(void)
{
	for (uint32_t q = 0; q < QUEUES; q++) {
		uint16_t flags = q == TX ? F_NEXT : F_NEXT | F_WRITE;

		device_start(0);
		for (uint16_t i = 0; i < SIZE; i++)
			describe(q, i, (uint64_t)buffer[i], 64, flags);
		queues[q].desc[SIZE - 1].next = 0;
		offer(q, 0);
		device_start(0);
		describe(q, 0, (uint64_t)buffer[0], 0, flags);
		queues[q].desc[0].next = 0;
		offer(q, 0);
		device_start(0);
		describe(q, 0, (uint64_t)buffer[0], 64, flags);
		queues[q].desc[0].next = 0xffff;
		offer(q, 0);
	}
}

static void attack_buffer(void)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} buffers[] = {
		{ NOWHERE, 4096 },
		{ ~0ull, 1 },
		{ ~0ull - 4095, 4096 },
		{ 0x100000, 0xffffffff },
		{ 0x100000, 0 },
		{ 0xa0000, 4096 },
		{ LAYOUT_VIRTIO_MMIO, 0x200 },
		{ 0xbffffff0, 4096 },
		{ 0x8000000000000000, 4096 },
	};

	for (unsigned i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
		device_start(0);
		describe(RX, 0, buffers[i].addr, buffers[i].len, F_WRITE);
		offer(RX, 0);
		describe(EVENT, 0, buffers[i].addr, buffers[i].len, F_WRITE);
		offer(EVENT, 0);
		packet_send(1, 9, 0); /* refused: an answer for the rx buffer above */
		describe(TX, 1, buffers[i].addr, buffers[i].len, 0);
		offer(TX, 1);
		/* A good header, then such a payload. */
		packet.op = 5;
		packet.len = buffers[i].len;
		describe(TX, 2, (uint64_t)&packet, PACKET_HEADER, F_NEXT);
		describe(TX, 3, buffers[i].addr, buffers[i].len, 0);
		offer(TX, 2);
	}
}

static void attack_direction(void)
{
	device_start(0);
	describe(RX, 0, (uint64_t)buffer[0], 256, 0);
	offer(RX, 0);
	packet_send(1, 9, 0);
	describe(TX, 1, (uint64_t)&packet, PACKET_HEADER, F_WRITE);
	offer(TX, 1);
	describe(TX, 2, (uint64_t)buffer[0], 64, F_WRITE | F_NEXT);
	describe(TX, 3, (uint64_t)&packet, PACKET_HEADER, 0);
	offer(TX, 2);
}

static void attack_short(void)
{
	for (uint32_t len = 0; len < PACKET_HEADER + 2; len += 5) {
		device_start(0);
		describe(RX, 0, (uint64_t)buffer[0], len, F_WRITE);
		offer(RX, 0);
		packet_send(1, 9, 0);
		describe(TX, 1, (uint64_t)&packet, len, 0);
		offer(TX, 1);
	}
	/* A header in crumbs of a byte, more of them than a ring has. */
	device_start(1ull << 28);
	for (uint16_t i = 0; i < 32; i++)
		table[i] =
			(struct descriptor){ (uint64_t)&packet + i, 1, F_NEXT, (uint16_t)(i + 1) };
	table[31].flags = 0;
	describe(TX, 0, (uint64_t)table, sizeof(table), F_INDIRECT);
	offer(TX, 0);
}

static void attack_indirect(void)
{
	static const uint32_t lengths[] = { 0, 1, 15, 17, 0xfffffff0, 0xffffffff };

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		device_start(1ull << 28);
		table[0] = (struct descriptor){ (uint64_t)&packet, PACKET_HEADER, 0, 0 };
		describe(TX, 0, (uint64_t)table, lengths[i], F_INDIRECT);
		offer(TX, 0);
	}
	device_start(1ull << 28);
	table[0] = (struct descriptor){ (uint64_t)table, 16, F_INDIRECT, 0 };
	describe(TX, 0, (uint64_t)table, 16, F_INDIRECT);
	offer(TX, 0);
	table[1] = (struct descriptor){ (uint64_t)&packet, 44, F_NEXT, 1 };
	describe(TX, 1, (uint64_t)(table + 1), 16, F_INDIRECT | F_NEXT);
	offer(TX, 1);
	describe(TX, 2, NOWHERE, 64, F_INDIRECT);
	offer(TX, 2);
	/* Not negotiated. */
	device_start(0);
	describe(TX, 0, (uint64_t)table, 16, F_INDIRECT);
	offer(TX, 0);
}

/* --- Attacks by packet */

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

static const struct {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{ "registers", attack_registers },
	{ "status", attack_status },
	{ "queue_size", attack_queue_size },
	{ "queue_address", attack_queue_address },
	{ "index", attack_index },
	{ "head", attack_head },
	{ "loop", attack_loop },
	{ "buffer", attack_buffer },
	{ "direction", attack_direction },
	{ "short", attack_short },
	{ "indirect", attack_indirect },
	{ "header", attack_header },
	{ "credit", attack_credit },
	{ "flood", attack_flood },
	{ "channel", attack_channel },
};

static void device_check(void)
{
	mmio_write(MMIO_STATUS, 0);
	if (*mmio32(base + MMIO_STATUS) != 0 || *mmio32(base + MMIO_DEVICE) != 19)
		fail("the device does not come out of a reset");
}

/* An honest packet gets an honest answer: nobody listens at port 9. */
static void device_use(void)
{
	const volatile struct packet *answer = (void *)buffer[0];

	device_start(0);
	rx_offer_all();
	packet_send(1, 9, 0);
	for (unsigned ms = 0; queues[RX].used.idx == 0 && ms < 1000; ms++)
		spin_ms(1);
	if (queues[RX].used.idx == 0 || answer->op != 3 || answer->src_port != 9)
		fail("the device does not work after a reset");
	device_check();
}

void guest_main(const struct pvh_info *info)
{
	bool all = true;

	for (base = LAYOUT_VIRTIO_MMIO; *mmio32(base + MMIO_DEVICE) != 19;)
		base += LAYOUT_VIRTIO_STRIDE;
	for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (option(info, attacks[i].name))
			all = false;
	}
	for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (!all && !option(info, attacks[i].name))
			continue;
		print(attacks[i].name);
		print("\n");
		attacks[i].run();
		device_check();
		device_use();
	}
	success();
}
