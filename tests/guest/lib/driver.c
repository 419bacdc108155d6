/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of the hostile guests; see driver.h.
 */
#include "tests/guest/driver.h"

volatile struct queue queues[QUEUES];
struct descriptor table[32];
struct packet packet;
uint8_t buffer[SIZE][256];
uint64_t base;

void mmio_write(uint32_t reg, uint32_t value)
{
	*mmio32(base + reg) = value;
}

void mmio_write64(uint32_t reg, uint64_t value)
{
	mmio_write(reg, (uint32_t)value);
	mmio_write(reg + 4, (uint32_t)(value >> 32));
}

void device_begin(uint64_t features)
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

void queue_start(uint32_t q)
{
	mmio_write(MMIO_QUEUE_SELECT, q);
	mmio_write(MMIO_QUEUE_SIZE, SIZE);
	mmio_write64(MMIO_DESC, (uint64_t)queues[q].desc);
	mmio_write64(MMIO_AVAIL, (uint64_t)&queues[q].avail);
	mmio_write64(MMIO_USED, (uint64_t)&queues[q].used);
	mmio_write(MMIO_QUEUE_READY, 1);
}

void device_start(uint64_t features)
{
	device_begin(features);
	for (uint32_t q = 0; q < QUEUES; q++)
		queue_start(q);
	mmio_write(MMIO_STATUS, 15);
}

void offer(uint32_t q, uint16_t head)
{
	volatile struct queue *queue = &queues[q];

	queue->avail.ring[queue->avail.idx % SIZE] = head;
	queue->avail.idx++;
	mmio_write(MMIO_NOTIFY, q);
}

void describe(uint32_t q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags)
{
	queues[q].desc[i] = (struct descriptor){ addr, len, flags, (uint16_t)(i + 1) };
}

void rx_offer_all(void)
{
	for (uint16_t i = 0; i < SIZE; i++) {
		describe(RX, i, (uint64_t)buffer[i], sizeof(buffer[i]), F_WRITE);
		offer(RX, i);
	}
}

void packet_send(uint16_t op, uint32_t port, uint32_t len)
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

void attacks_run(const struct pvh_info *info, const struct attack *attacks, unsigned count)
{
	bool all = true;

	for (base = LAYOUT_VIRTIO_MMIO; *mmio32(base + MMIO_DEVICE) != 19;)
		base += LAYOUT_VIRTIO_STRIDE;
	for (unsigned i = 0; i < count; i++) {
		if (option(info, attacks[i].name))
			all = false;
	}
	for (unsigned i = 0; i < count; i++) {
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
