/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole state of the embedded guest, and the parts that serve: the function
 * channel, the commands of a request, the echo port, and connections to the host.
 */
#ifndef VIRGA_GUEST_BUILTIN_SERVER_H
#define VIRGA_GUEST_BUILTIN_SERVER_H

#include "devices/channel/protocol.h"
#include "guest/builtin/vsock.h"

#define ECHO_PORT       7u
#define CHANNEL_STASH   (256u << 10) /* bytes of requests that may wait while an answer is sent */
#define CHANNEL_RETRIES 3u
#define NO_BUFFER       0xffffu

#define SPIN_MAX_US     600000000ull

enum stream_use { STREAM_CHANNEL, STREAM_OUTGOING, STREAM_ECHO }; /* indices; echo to the end */

enum out_state { OUT_NONE, OUT_SENDING, OUT_SENT };

/* An answer that goes out when everything before it has. */
struct last {
	bool due;
	uint32_t len;
	uint64_t id;
	const uint8_t *data;
	uint64_t delay_us;
};

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

	const uint8_t *block; /* sent `again` times more when `out` has been */
	uint32_t block_len;
	uint64_t again;
	struct last last;
};

/* A request, less the first word and the number that belongs to it. */
struct request {
	uint64_t id;
	uint64_t number;
	const uint8_t *text;
	uint32_t len;
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
	uint32_t next_port;       /* for our end of streams to the host */
	uint32_t environment_len; /* bytes of variables; 0: none */
	char reply[64];
	struct guest_memory memory;
};

/* channel.c: docs/function-channel.md, the guest's side. */
void channel_connect(struct guest *g) COLD;
/* A packet of the channel's stream; true: its buffer is kept (channel.held). */
bool channel_packet(struct guest *g, struct stream *s, const struct packet *packet);
void channel_pump(struct guest *g);
/* Queues the answer; data stays as it is until it is sent. Only when out_state is OUT_NONE. */
void channel_answer(struct guest *g, enum channel_type type, uint64_t id, const void *data,
		    uint32_t len);
/* The same for bytes that are frames already, or none. */
void channel_bytes(struct guest *g, const void *data, uint32_t len);
/* An ERROR frame with a sentence. */
void channel_error(struct guest *g, uint64_t id, const char *sentence);

/* commands.c: does what a request says; it answers at once, if its command does. */
void command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len);
/* Computes for that long. */
void spin_us(uint64_t us);
/* Reads a decimal number at *text, ending at a blank or the end; moves past both. */
bool number_read(const uint8_t **text, uint32_t *len, uint64_t *value);

/* environment.c: len bytes of an ENVIRONMENT's payload, from byte `at` of it on; its end. */
void environment_take(struct guest *g, uint32_t at, const uint8_t *data, uint32_t len);
void environment_end(struct guest *g, uint32_t len);
void command_env(struct guest *g, const struct request *r);

/* hostile.c */
void command_log(struct guest *g, const struct request *r) COLD;
void command_flood(struct guest *g, const struct request *r) COLD;
void command_twice(struct guest *g, const struct request *r) COLD;
void command_late(struct guest *g, const struct request *r) COLD;
void command_big(struct guest *g, const struct request *r) COLD;
void command_garbage(struct guest *g, const struct request *r) COLD;
void command_close(struct guest *g, const struct request *r) COLD;
void command_mute(struct guest *g, const struct request *r) COLD;
void command_hang(struct guest *g, const struct request *r) COLD;
void command_mark(struct guest *g, const struct request *r) COLD;
void command_remap(struct guest *g, const struct request *r) COLD;
/* Sends channel.last. */
void hostile_last(struct guest *g) COLD;

/* streams.c: the echo port, and the request `connect`. */
void echo_accept(struct guest *g, const struct packet *packet) COLD;
void echo_packet(struct guest *g, struct stream *s, const struct packet *packet) COLD;
void echo_pump(struct guest *g, struct stream *s) COLD;
void command_connect(struct guest *g, const struct request *r) COLD;
void outgoing_packet(struct guest *g, struct stream *s, const struct packet *packet) COLD;
void outgoing_pump(struct guest *g, struct stream *s) COLD;
void outgoing_cancel(struct guest *g);

#endif
