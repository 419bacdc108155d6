/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine with nothing but memory and a vsock device, and the guest's driver for
 * it: packets out, packets in. The test that includes it wraps vm_irq, vm_wake and
 * vm_poll_add (tests/unit/arch/vm_calls.h).
 */
#ifndef VIRGA_TESTS_UNIT_VSOCK_GUEST_H
#define VIRGA_TESTS_UNIT_VSOCK_GUEST_H

#include "devices/channel/channel.h"
#include "devices/device.h"
#include "devices/vsock/vsock.h"
#include "tests/unit/devices/virtio/ring.h"

#define GUEST_RAM       (4ull << 20)
#define GUEST_SIZE      64 /* entries of each queue */
#define GUEST_BUFFER    4096
#define GUEST_BUF_ALLOC 65536

struct vsock_guest {
	struct vm vm;
	struct devices devices;
	const char *path; /* of the host's side, or NULL */
	struct device_host host;
	struct channel *channel;
	struct ring rx;
	struct ring tx;
	bool hold_rx;       /* buffers that were read are not offered again */
	uint32_t buf_alloc; /* what the next packets say */
	uint32_t fwd_cnt;

	/* What the device has asked the supervisor for. */
	unsigned questions;
	uint64_t question_id;
	uint32_t question_port;
	int refuse;                                 /* the answer to asking, 0 or -errno */
	void (*on_question)(struct vsock_guest *g); /* called before that, if set */
};

#define GUEST_CHANNEL_PORT 1025u /* the guest's port of the function channel */
#define GUEST_HOST_PORT    52u   /* the host port that guest_connect() asks for */

/* Made and driven up to DRIVER_OK, with all RX buffers offered. */
void guest_create(struct vsock_guest *g, const char *path);

/* The usual devices of a machine around it. 0 or -errno. */
int guest_devices(struct vsock_guest *g);
void guest_bring_up(struct vsock_guest *g, bool event_idx);
void guest_destroy(struct vsock_guest *g);

struct device *guest_device(struct vsock_guest *g);

uint32_t guest_get(struct vsock_guest *g, uint32_t offset);
void guest_put(struct vsock_guest *g, uint32_t offset, uint32_t value);

/* Puts a packet into TX without a kick / with one. */
void guest_post(struct vsock_guest *g, const struct vsock_header *h, const void *data);
void guest_kick(struct vsock_guest *g);
void guest_send(struct vsock_guest *g, enum vsock_op op, uint32_t host_port, uint32_t guest_port,
		uint32_t flags, const void *data, uint32_t len);

/* The next packet from the device, or false. data: room for GUEST_BUFFER bytes, or NULL. */
bool guest_receive(struct vsock_guest *g, struct vsock_header *h, void *data);

/* Whether the next packet is this one. */
bool guest_hears(struct vsock_guest *g, enum vsock_op op, uint32_t host_port, uint32_t guest_port);

#define assert_hears(g, op, host_port, guest_port) \
	assert_true(guest_hears(g, op, host_port, guest_port))
#define assert_silent(g) assert_false(guest_receive(g, &(struct vsock_header){ 0 }, NULL))

/* Opens the function channel and says READY with these flags. */
void guest_open_channel(struct vsock_guest *g, uint8_t flags);

/* A connection that the guest begins; returns the host's socket, non-blocking. */
int guest_connect(struct vsock_guest *g, uint32_t guest_port);

/* Offers n RX buffers (again) and kicks. */
void guest_offer_rx(struct vsock_guest *g, unsigned n);

/* Handles whatever the loop has ready. */
void guest_turn(struct vsock_guest *g);

#endif
