/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that breaks every rule of registers and rings (virtio 1.2, 2.7). A name on the
 * command line runs one attack, none runs all.
 */
#include "devices/channel/protocol.h"
#include "tests/guest/driver.h"

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
	/* The main table itself, so that its one descriptor leads to itself. */
	device_start(1ull << 28);
	describe(TX, 0, (uint64_t)queues[TX].desc, sizeof(queues[TX].desc), F_INDIRECT);
	offer(TX, 0);
	/* Not negotiated. */
	device_start(0);
	describe(TX, 0, (uint64_t)table, 16, F_INDIRECT);
	offer(TX, 0);
}

static const struct attack attacks[] = {
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
};

void guest_main(const struct pvh_info *info)
{
	attacks_run(info, attacks, sizeof(attacks) / sizeof(attacks[0]));
}
