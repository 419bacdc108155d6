/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole state of the embedded guest, and the parts that serve: the function
 * channel, the commands of a request, the echo port, and connections to the host.
 */
#ifndef VIRGA_GUEST_BUILTIN_SERVER_H
#define VIRGA_GUEST_BUILTIN_SERVER_H

#include "devices/channel_protocol.h"
#include "guest/builtin/vsock.h"

#define ECHO_PORT       7u
#define CHANNEL_STASH   (256u << 10) /* bytes of requests that may wait while an answer is sent */
#define CHANNEL_RETRIES 3u
#define NO_BUFFER       0xffffu

enum stream_use { STREAM_CHANNEL, STREAM_OUTGOING, STREAM_ECHO }; /* indices; echo to the end */

enum out_state { OUT_NONE, OUT_SENDING, OUT_SENT };

struct channel {
	struct channel_header frame; /* the one that is coming in */
	uint32_t frame_have;         /* bytes of it, then */
	uint32_t frame_left;         /* bytes of its payload to come */

	uint64_t message_id; /* a REQUEST that comes in pieces */
	uint32_t message_len;
	bool message_open;
	bool message_cancelled;
	bool message_too_long;

	uint8_t out_type;
	uint8_t out_state; /* while it is not OUT_NONE, nothing more is parsed */
	uint16_t held;     /* receive buffer that `out` lies in, or NO_BUFFER */
	uint32_t out_left;
	uint32_t out_frame_left;
	uint64_t out_id;
	const uint8_t *out;

	uint32_t stash_in; /* free-running */
	uint32_t stash_out;
	uint32_t retries;
};

/* The request `connect`. */
struct outgoing {
	bool active;
	uint64_t id;
	const uint8_t *text;
	uint32_t text_left;
	uint32_t answer_len;
	uint32_t answer_max;
	uint8_t *answer;
};

struct guest {
	struct vsock vsock;
	struct channel channel;
	struct outgoing outgoing;
	uint32_t next_port; /* for our end of streams to the host */
	char reply[64];
	struct guest_memory memory;
};

/* channel.c: docs/function-channel.md, the guest's side. */
void channel_connect(struct guest *g);
/* A packet of the channel's stream; true: its buffer is kept (channel.held). */
bool channel_packet(struct guest *g, struct stream *s, const struct packet *packet);
void channel_pump(struct guest *g);
/* Queues the answer; data stays as it is until it is sent. Only when out_state is OUT_NONE. */
void channel_answer(struct guest *g, enum channel_type type, uint64_t id, const void *data,
		    uint32_t len);
/* An ERROR frame with a sentence. */
void channel_error(struct guest *g, uint64_t id, const char *sentence);

/* commands.c: does what a request says; it answers at once, but for `connect`. */
void command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len);
/* Reads a decimal number at *text, ending at a blank or the end; moves past both. */
bool number_read(const uint8_t **text, uint32_t *len, uint64_t *value);

/* streams.c: the echo port, and the request `connect`. */
void echo_accept(struct guest *g, const struct packet *packet);
void echo_packet(struct guest *g, struct stream *s, const struct packet *packet);
void echo_pump(struct guest *g, struct stream *s);
/* text: PORT TEXT. */
void outgoing_start(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len);
void outgoing_packet(struct guest *g, struct stream *s, const struct packet *packet);
void outgoing_pump(struct guest *g, struct stream *s);
void outgoing_cancel(struct guest *g);

#endif
