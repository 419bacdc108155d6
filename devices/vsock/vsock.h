/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio-vsock connections (virtio 1.2, 5.10): who is connected to whom, credit,
 * shutdown, reset. It knows neither rings (devices/virtio_vsock.c) nor sockets
 * (devices/vsock/unix.c): packets come in by vsock_receive(), go out by vsock_next(),
 * and bytes are moved by the connection's end. VM lock held everywhere.
 *
 * Credit: each side tells how large its buffer is (buf_alloc) and how many bytes it has taken out
 * of it for ever (fwd_cnt); the other may have sent at most their sum. All counters wrap at 2^32.
 *
 * What a hostile guest can make this hold is fixed: VSOCK_CONNS_MAX connections of VSOCK_BUF_ALLOC
 * bytes and VSOCK_RESETS_MAX resets it does not fetch; then its packets wait in its own ring.
 */
#ifndef VIRGA_DEVICES_VSOCK_VSOCK_H
#define VIRGA_DEVICES_VSOCK_VSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define VSOCK_CID_HOST    2u
#define VSOCK_CID_GUEST   3u
#define VSOCK_CONNS_MAX   256u /* connection 0 is the function channel's */
#define VSOCK_RESETS_MAX  64u
#define VSOCK_BUF_ALLOC   (64u << 10) /* of a connection to a unix socket */
#define VSOCK_PORT_FIRST  (1u << 30)  /* host ports of connections that the host begins */
#define VSOCK_TYPE_STREAM 1u

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_SHUT_RCV  1u /* flags of SHUTDOWN: the sender will receive no more, */
#define VSOCK_SHUT_SEND 2u /* will send no more */
#define VSOCK_SHUT_BOTH 3u

/* A packet's header (5.10.6); little-endian. */
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

enum vsock_conn_state {
	VSOCK_FREE,       /* nobody's, or its end still empties its buffer (conn->end) */
	VSOCK_ASKING,     /* the guest wants it; the supervisor was asked */
	VSOCK_REQUESTING, /* the host wants it; the guest was asked */
	VSOCK_OPEN,
	VSOCK_RESET, /* over for us; the guest is still to be told by RST */
};

/* What is to be sent beside data; several may be due at once. */
#define VSOCK_DUE_REQUEST        0x01u
#define VSOCK_DUE_RESPONSE       0x02u
#define VSOCK_DUE_SHUTDOWN       0x04u
#define VSOCK_DUE_CREDIT         0x08u /* CREDIT_UPDATE */
#define VSOCK_DUE_CREDIT_REQUEST 0x10u
#define VSOCK_DUE_ALL            0x1fu

struct vsock;
struct vsock_conn;

/* The host side of a connection. */
struct vsock_end {
	/*
	 * Fills the list with bytes for the guest: how many, 0 at their end, -EPIPE when the host
	 * side takes none either, -EAGAIN, or -errno: the connection is to be reset.
	 */
	ssize_t (*read)(struct vsock_conn *c, const struct iovec *iov, unsigned count);
	/*
	 * Takes all of the list, which fits into buf_alloc by the rules of credit. Returns the bytes
	 * that have left the buffer at once; it calls vsock_forwarded() for the others. -EPIPE:
	 * nobody reads any more; other -errno: the connection is to be reset.
	 */
	ssize_t (*write)(struct vsock_conn *c, const struct iovec *iov, unsigned count);
	/* The guest accepted a connection that this end asked for. */
	void (*opened)(struct vsock_conn *c);
	/* The guest will receive (VSOCK_SHUT_RCV) or send (VSOCK_SHUT_SEND) no more. */
	void (*shutdown)(struct vsock_conn *c, unsigned flags);
	/*
	 * The connection is over. With `drain` bytes may still be on their way to the host: true
	 * when so, and then vsock_drained() follows.
	 */
	bool (*close)(struct vsock_conn *c, bool drain);
	/* Something changed: state, readable, credit. Optional. */
	void (*update)(struct vsock_conn *c);
};

struct vsock_conn {
	struct vsock *vsock;
	const struct vsock_end *end; /* NULL while there is none */
	void *opaque;                /* the end's */
	uint64_t id;                 /* of the question to the supervisor, while ASKING */
	bool readable;               /* end->read() may have bytes */
	uint8_t state;
	uint8_t due;
	uint8_t guest_shut;
	uint8_t host_shut;
	uint8_t asked; /* CREDIT_REQUEST sent since credit last changed */
	uint32_t host_port;
	uint32_t guest_port;
	uint32_t buf_alloc;       /* our buffer for what the guest sends */
	uint32_t received;        /* bytes that the guest has sent */
	uint32_t fwd_cnt;         /* of them, bytes that have left our buffer */
	uint32_t fwd_told;        /* fwd_cnt in the last packet we sent */
	uint32_t guest_buf_alloc; /* the same the other way round */
	uint32_t guest_fwd_cnt;
	uint32_t sent;
};

/* An RST for a packet that belongs to no connection. */
struct vsock_reset {
	uint32_t host_cid; /* whom the guest wrote to: not always us */
	uint32_t host_port;
	uint32_t guest_port;
	uint32_t type;
};

/* What the owner, the virtio device, does for connections that the guest begins. */
struct vsock_owner {
	/* A connection to host_port. True: c has been given an end, or c->id and ASKING. */
	bool (*connect)(void *opaque, struct vsock_conn *c);
	/* There is something to send. */
	void (*wake)(void *opaque);
	/* Whether there is a driver that could accept a connection. */
	bool (*has_driver)(void *opaque);
	void *opaque;
};

struct vsock {
	const struct vsock_owner *owner;
	uint64_t due[VSOCK_CONNS_MAX / 64]; /* bit per connection with something to send */
	uint32_t next_port;                 /* saved: restored machines do not use a port twice */
	unsigned cursor;                    /* the connection that was served last */
	unsigned top;                       /* connections beyond are free */
	unsigned reset_first;
	unsigned reset_count;
	struct vsock_reset resets[VSOCK_RESETS_MAX];
	struct vsock_conn conns[VSOCK_CONNS_MAX];
};

void vsock_init(struct vsock *v, const struct vsock_owner *owner);

/* Ends every connection without a word to the guest, which has reset the device. */
void vsock_clear(struct vsock *v);

/* The same, and what the guest had sent and the host has not taken yet goes too. */
void vsock_drop(struct vsock *v);

/* After loading connections: works out what follows from their saved members. */
void vsock_restored(struct vsock *v);

/* --- Packets --- */

/* False while a packet of the guest cannot be answered for want of room: leave it in its ring. */
bool vsock_can_receive(const struct vsock *v);

/* A packet from the guest: its header, copied, and h->len bytes of payload. */
void vsock_receive(struct vsock *v, const struct vsock_header *h, const struct iovec *iov,
		   unsigned count);

/* Whether vsock_next() may have a packet. */
bool vsock_has_output(const struct vsock *v);

/*
 * The next packet for the guest: fills *h and h->len bytes of the list, whose entries it may
 * shorten. False when there is none.
 */
bool vsock_next(struct vsock *v, struct vsock_header *h, struct iovec *iov, unsigned count);

/* --- For ends --- */

/* A free connection other than 0, cleared, with these ports; NULL when there is none. It stays free
 * until its state is set. */
struct vsock_conn *vsock_conn_new(struct vsock *v, uint32_t host_port, uint32_t guest_port);

/* The same with a host port of its own; NULL also while the guest has no driver for it. */
struct vsock_conn *vsock_conn_new_host(struct vsock *v, uint32_t guest_port);

/* Asks the guest for the connection; c is fresh from vsock_conn_new_host(). */
void vsock_request(struct vsock_conn *c, const struct vsock_end *end);

/* The host accepted the connection that the guest asked for. */
void vsock_accept(struct vsock_conn *c, const struct vsock_end *end);

/* Ends a connection from the host's side, at once. */
void vsock_reset(struct vsock_conn *c);

/* The end has bytes to read. */
void vsock_readable(struct vsock_conn *c);

/* The host will send or receive no more; data read before goes first. */
void vsock_host_shutdown(struct vsock_conn *c, unsigned flags);

/* len bytes more have left the end's buffer. */
void vsock_forwarded(struct vsock_conn *c, size_t len);

/* An end that was closed with `drain` is done. */
void vsock_drained(struct vsock_conn *c);

/* Bytes the guest can take now. */
uint32_t vsock_credit(const struct vsock_conn *c);

/* Whether the end's bytes are wanted: open, that direction not shut, credit. */
bool vsock_wants_data(const struct vsock_conn *c);

unsigned vsock_conn_index(const struct vsock_conn *c);

/* --- Between vsock.c and packet.c; these wake nobody: packets are being moved --- */

/* The connection of these ports, unless it is free; NULL when there is none. */
struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);

/* A new connection 0 for the function channel; NULL while there is one. */
struct vsock_conn *vsock_conn_new_channel(struct vsock *v, uint32_t guest_port);

/* Queues an RST in answer to a packet that belongs to no connection; to RST there is none. */
void vsock_refuse(struct vsock *v, const struct vsock_header *h);

/* To be called after every change of a connection: is there something to send, what to wait for. */
void vsock_update(struct vsock_conn *c);

/* Frees a connection that the guest knows to be over. `drain`: what it has sent still goes out. */
void vsock_free(struct vsock_conn *c, bool drain);

/* The same for one whose guest is still to be told by RST. */
void vsock_abort(struct vsock_conn *c, bool drain);

/* The host will send or receive no more. */
void vsock_shut(struct vsock_conn *c, unsigned flags);

/* len bytes have left our buffer: half a buffer of such news is worth a packet. */
void vsock_count_forwarded(struct vsock_conn *c, size_t len);

#endif
