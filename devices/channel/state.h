/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a function channel, between channel.c and parse.c. The
 * guest may be hostile: what it can make this hold is one answer of
 * CHANNEL_PAYLOAD_MAX and one piece of log.
 */
#ifndef VIRGA_DEVICES_CHANNEL_STATE_H
#define VIRGA_DEVICES_CHANNEL_STATE_H

#include "devices/channel/channel.h"

#define CHANNEL_HEADER_SIZE 32u
#define CHANNEL_LOG_MAX     4096u        /* a longer LOG frame is heard in pieces */
#define CHANNEL_KEEP        (64u << 10)  /* bytes of buffer kept between messages */
#define CHANNEL_MAPPED      (128u << 10) /* such buffers are mappings, which move and go whole */

_Static_assert(sizeof(struct channel_header) == CHANNEL_HEADER_SIZE, "on the wire");

/* Where the payload of the frame being read goes. */
enum channel_sink { CHANNEL_SKIP, CHANNEL_ANSWER, CHANNEL_TEXT };

/* Saved. */
struct channel_state {
	uint8_t open;
	uint8_t ready;
	uint8_t want_restored;
	uint8_t waiting;     /* `outstanding` is the id of a request without answer */
	uint8_t sink;        /* enum channel_sink */
	uint8_t answer_type; /* of what is in the answer buffer */
	uint8_t header_len;  /* bytes of header that have come */
	uint8_t header[CHANNEL_HEADER_SIZE];
	uint32_t left; /* bytes of payload still to come */
	uint32_t answer_len;
	uint32_t log_len;
	uint32_t out_len;
	uint64_t outstanding;
	uint64_t dropped;
	uint64_t skipped;
};

struct channel {
	struct channel_state state;
	struct channel_events events;
	void (*wake)(void *opaque);
	void *wake_opaque;
	uint8_t *answer; /* answer_size bytes */
	size_t answer_size;
	uint8_t *out; /* out_size bytes; out_len of them from out_first wait for the guest */
	size_t out_size;
	size_t out_first;
	uint8_t log[CHANNEL_LOG_MAX];
};

/* Gives a buffer back without what went through it. */
void channel_drop(uint8_t **buffer, size_t *size);

/* Makes one larger; its first `used` bytes stay, and nowhere else. False when out of memory. */
bool channel_grow(uint8_t **buffer, size_t *size, size_t need, size_t used);

/* Closes an open channel and tells the owner why. */
void channel_break(struct channel *c, int err, const char *why);

#endif
