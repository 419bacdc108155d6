/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's end of the function channel (docs/function-channel.md): frames in and
 * out of one non-blocking socket. What they mean is agent.c's.
 */
#ifndef VIRGA_GUEST_AGENT_CHANNEL_H
#define VIRGA_GUEST_AGENT_CHANNEL_H

#include <stdbool.h>

#include "devices/channel/protocol.h"
#include "guest/agent/buffer.h"

#define CHANNEL_SMALL_MAX 256u /* payload bytes kept of frames that hold no data */

/* A whole message; data is valid during the call. */
struct message {
	enum channel_type type;
	uint64_t id;
	uint64_t deadline_us; /* as channel_now_us() tells; 0: none */
	const uint8_t *data;
	size_t len;
	bool too_long; /* REQUEST, ENVIRONMENT: over the limit, or over memory: without data */
};

typedef void (*channel_handler)(void *opaque, const struct message *message);

struct channel {
	int fd; /* owned; -1 when there is none */
	struct channel_header header;
	size_t header_have;
	uint32_t left;         /* payload bytes to come */
	struct buffer request; /* one whose frames are coming in */
	uint64_t request_id;
	uint64_t deadline_us;
	bool request_open;
	bool cancelled;
	bool too_long;
	struct buffer environment; /* of the frame that is coming in */
	size_t small_len;
	uint8_t small[CHANNEL_SMALL_MAX];
	struct buffer out;
};

/* CLOCK_MONOTONIC in microseconds. */
uint64_t channel_now_us(void);

/* A channel over fd, which it owns and makes non-blocking. */
void channel_open(struct channel *c, int fd);
void channel_close(struct channel *c);

/* A vsock connection to the VMM, or -errno. */
int channel_connect(void);

/*
 * Reads what is there, a bounded part of it, and calls the handler for each message. 0, or -errno
 * when the channel is of no use any more: -EPIPE closed, -EPROTO not the protocol.
 */
int channel_read(struct channel *c, channel_handler handler, void *opaque);

/* Queues a frame. -ENOMEM. */
int channel_send(struct channel *c, enum channel_type type, uint8_t flags, uint64_t id,
		 const void *data, size_t len);

/* Writes what is queued as far as the socket takes it. 0 or -errno. */
int channel_write(struct channel *c);

#endif
