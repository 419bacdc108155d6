/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vsock driver for the hostile guests to bend: it does what it is told, right or
 * wrong, and can tell whether the device still works (virtio 1.2, 2.7 and 4.2.2).
 */
#ifndef VIRGA_TESTS_GUEST_DRIVER_H
#define VIRGA_TESTS_GUEST_DRIVER_H

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

enum queue_index { RX, TX, EVENT, QUEUES };

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

extern volatile struct queue queues[QUEUES];
extern struct descriptor table[32]; /* for indirect descriptors */
extern struct packet packet;
extern uint8_t buffer[SIZE][256];
extern uint64_t base; /* of the device's registers */

struct attack {
	const char *name;
	void (*run)(void);
};

void mmio_write(uint32_t reg, uint32_t value);
void mmio_write64(uint32_t reg, uint64_t value);

/* Resets the device and negotiates features, VERSION_1 always; queues are zeroed. */
void device_begin(uint64_t features);
void queue_start(uint32_t q);
/* All of it up to DRIVER_OK. */
void device_start(uint64_t features);

/* Makes descriptor i, whose next is i + 1; offers a chain and notifies. */
void describe(uint32_t q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags);
void offer(uint32_t q, uint16_t head);
void rx_offer_all(void);
/* Sends a packet to the host's port, with len bytes of packet.data. */
void packet_send(uint16_t op, uint32_t port, uint32_t len);

/*
 * Runs the attack that the command line names, or all. After each the device must come out of a
 * reset and answer an honest packet; then SUCCESS.
 */
void attacks_run(const struct pvh_info *info, const struct attack *attacks, unsigned count);

#endif
