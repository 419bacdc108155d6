/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock driver of the embedded guest: virtio-mmio, two small split rings that
 * are polled, and streams with credit (virtio 1.2, 2.7, 4.2 and 5.10). Packets are
 * not copied: a receive buffer is lent to whoever handles it, and sent data stays where it is.
 */
#ifndef VIRGA_GUEST_BUILTIN_VSOCK_H
#define VIRGA_GUEST_BUILTIN_VSOCK_H

#include "guest/builtin/guest.h"

#define QUEUE_SIZE       16u
#define SEND_SLOTS       (QUEUE_SIZE / 2) /* a header and a payload descriptor each */
#define VSOCK_SEND_MAX   65536u           /* payload bytes of one packet */
#define VSOCK_PREFIX_MAX 32u              /* bytes that may go between header and payload */
#define STREAM_COUNT     10u
#define HOST_CID         2u

struct queue_descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct queue {
	struct queue_descriptor desc[QUEUE_SIZE];
	struct {
		uint16_t flags;
		uint16_t idx;
		uint16_t ring[QUEUE_SIZE];
		uint16_t unused;
	} avail;
	struct {
		uint16_t flags;
		uint16_t idx;
		struct {
			uint32_t id;
			uint32_t len;
		} ring[QUEUE_SIZE];
		uint32_t unused;
	} used;
	uint32_t seen; /* used entries handled */
} __attribute__((aligned(16)));

struct vsock_header {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len;
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc;
	uint32_t fwd_cnt;
} __attribute__((packed));

enum vsock_op {
	VSOCK_REQUEST = 1,
	VSOCK_RESPONSE = 2,
	VSOCK_RST = 3,
	VSOCK_SHUTDOWN = 4,
	VSOCK_RW = 5,
	VSOCK_CREDIT_UPDATE = 6,
	VSOCK_CREDIT_REQUEST = 7,
};

#define VSOCK_STREAM        1u /* vsock_header.type */
#define VSOCK_SHUTDOWN_RECV 1u
#define VSOCK_SHUTDOWN_SEND 2u

enum stream_state { STREAM_FREE, STREAM_CONNECTING, STREAM_OPEN, STREAM_CLOSING };

/* One stream to CID 2. Counters are free-running, as on the wire. */
struct stream {
	uint8_t state;
	uint8_t wanted;        /* bit per vsock_op: control packets that are still to be sent */
	uint8_t peer_shutdown; /* VSOCK_SHUTDOWN_*: what the peer will not do any more */
	uint8_t in_flight;     /* packets whose payload the device may still read */
	uint32_t local_port;
	uint32_t peer_port;
	uint32_t buf_alloc; /* bytes we hold for the peer */
	uint32_t received;
	uint32_t forwarded; /* of received: done with */
	uint32_t told;      /* forwarded, as the peer knows it */
	uint32_t sent;
	uint32_t sent_done; /* of sent: not needed any more */
	uint32_t peer_buf_alloc;
	uint32_t peer_forwarded;
};

struct vsock {
	struct queue rx;
	struct queue tx;
	uint64_t cid;
	uint32_t slots_free; /* bit per slot */
	uint32_t slot_len[SEND_SLOTS];
	struct stream *slot_stream[SEND_SLOTS];
	uint8_t slot_header[SEND_SLOTS][sizeof(struct vsock_header) + VSOCK_PREFIX_MAX];
	struct stream streams[STREAM_COUNT];
};

/* A received packet; its buffer belongs to the caller until vsock_give_back(). */
struct packet {
	const struct vsock_header *header;
	const uint8_t *data;
	uint32_t len;
	uint16_t buffer;
};

/* Finds the device and starts it. Ring 0. v->cid stays 0 when there is none that can be used. */
void vsock_start(struct vsock *v) COLD;

/* Offers all receive buffers, frees all slots. */
void vsock_fill(struct vsock *v) COLD;

/* Takes back what the device has sent, for streams and slots. */
void vsock_reap(struct vsock *v);

/* The next packet, or false. */
bool vsock_receive(struct vsock *v, struct packet *packet);
void vsock_give_back(struct vsock *v, uint16_t buffer);

/* The stream that a packet belongs to, or NULL. Takes the peer's credit from it. */
struct stream *vsock_match(struct vsock *v, const struct packet *packet);

/* Sends RST for a packet that no stream takes. */
void vsock_refuse(struct vsock *v, const struct packet *packet) COLD;

/* Forgets a stream at once, without a word to the peer. */
void stream_free(struct vsock *v, struct stream *s) COLD;

/* Makes a free stream: outgoing (REQUEST wanted), or accepted from a REQUEST (RESPONSE wanted). */
void stream_connect(struct stream *s, uint32_t local_port, uint32_t peer_port,
		    uint32_t buf_alloc) COLD;
void stream_accept(struct stream *s, const struct packet *packet, uint32_t buf_alloc) COLD;

/* Sends what control packets are wanted, and a credit update when the peer may be short. */
void stream_pump(struct vsock *v, struct stream *s);

/* Bytes that one packet may carry now: the peer's credit, at most VSOCK_SEND_MAX; 0: wait. */
uint32_t stream_room(const struct vsock *v, const struct stream *s);

/*
 * Sends prefix and data, together at most stream_room(). data stays as it is until in_flight is 0
 * or sent_done has passed it.
 */
void stream_send(struct vsock *v, struct stream *s, const void *prefix, uint32_t prefix_len,
		 const void *data, uint32_t len);

static inline void stream_want(struct stream *s, enum vsock_op op)
{
	s->wanted |= (uint8_t)(1u << op);
}

#endif
