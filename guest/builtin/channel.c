/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's end of the function channel. A request that came whole in one packet
 * is handled where it lies, and answered from there if its answer is part of it.
 */
#include "guest/builtin/server.h"

#define FRAME_MAX (1u << 20) /* a longer answer goes in frames with MORE */

static uint8_t stash[CHANNEL_STASH];

void channel_connect(struct guest *g)
{
	struct channel *c = &g->channel;

	*c = (struct channel){ .held = NO_BUFFER, .retries = c->retries };
	stream_connect(&g->vsock.streams[STREAM_CHANNEL], g->next_port++, CHANNEL_PORT,
		       CHANNEL_STASH);
}

void channel_answer(struct guest *g, enum channel_type type, uint64_t id, const void *data,
		    uint32_t len)
{
	struct channel *c = &g->channel;

	c->out_state = OUT_SENDING;
	c->out_type = (uint8_t)type;
	c->out_id = id;
	c->out = data;
	c->out_left = len;
	c->out_frame_left = 0;
}

void channel_bytes(struct guest *g, const void *data, uint32_t len)
{
	channel_answer(g, CHANNEL_LOG, 0, data, len);
	g->channel.out_frame_left = len; /* as if their header had gone before */
}

void channel_error(struct guest *g, uint64_t id, const char *sentence)
{
	uint32_t len = 0;

	while (sentence[len] != '\0')
		len++;
	channel_answer(g, CHANNEL_ERROR, id, sentence, len);
}

/* The payload of a REQUEST that does not lie in one piece. */
static void message_add(struct guest *g, const uint8_t *data, uint32_t len)
{
	struct channel *c = &g->channel;

	if (len > g->memory.message_size - c->message_len) {
		c->message_too_long = true;
		return;
	}
	memcpy(g->memory.message + c->message_len, data, len);
	c->message_len += len;
}

static void message_end(struct guest *g)
{
	struct channel *c = &g->channel;

	c->message_open = false;
	if (c->message_cancelled)
		return;
	if (c->message_too_long)
		channel_error(g, c->message_id,
			      "the request does not fit into this guest's memory");
	else
		command_run(g, c->message_id, g->memory.message, c->message_len);
}

/* The header is complete. False: this is not the protocol. */
static bool frame_begin(struct guest *g)
{
	struct channel *c = &g->channel;

	if (c->frame.magic != CHANNEL_MAGIC || c->frame.version != CHANNEL_VERSION)
		return false;
	c->frame_left = c->frame.length;
	if (c->frame.type != CHANNEL_REQUEST)
		return true;
	if (!c->message_open || c->message_id != c->frame.id) {
		outgoing_cancel(g);
		c->message_open = true;
		c->message_id = c->frame.id;
		c->message_len = 0;
		c->message_cancelled = false;
		c->message_too_long = false;
	}
	return true;
}

static void frame_end(struct guest *g)
{
	struct channel *c = &g->channel;

	c->frame_have = 0;
	switch (c->frame.type) {
	case CHANNEL_REQUEST:
		if ((c->frame.flags & CHANNEL_FLAG_MORE) == 0)
			message_end(g);
		break;
	case CHANNEL_ENVIRONMENT:
		environment_end(g, c->frame.length);
		break;
	case CHANNEL_QUIESCE:
		channel_answer(g, CHANNEL_QUIESCED, c->frame.id, NULL, 0);
		break;
	case CHANNEL_CANCEL:
		if (c->message_open && c->message_id == c->frame.id)
			c->message_cancelled = true;
		if (g->outgoing.active && g->outgoing.id == c->frame.id)
			outgoing_cancel(g);
		break;
	default:
		break;
	}
}

/* Parses until an answer has to be sent first; returns the bytes taken. */
static uint32_t channel_parse(struct guest *g, const uint8_t *data, uint32_t len, bool in_place)
{
	struct channel *c = &g->channel;
	uint32_t at = 0;

	while (at < len && c->out_state == OUT_NONE) {
		uint32_t n = (uint32_t)sizeof(c->frame) - c->frame_have;

		if (n > 0) {
			n = n < len - at ? n : len - at;
			memcpy((uint8_t *)&c->frame + c->frame_have, data + at, n);
			c->frame_have += n;
			at += n;
			if (c->frame_have < sizeof(c->frame))
				break;
			if (!frame_begin(g)) {
				stream_want(&g->vsock.streams[STREAM_CHANNEL], VSOCK_RST);
				return len;
			}
		}
		n = c->frame_left < len - at ? c->frame_left : len - at;
		if (in_place && c->frame.type == CHANNEL_REQUEST && n == c->frame.length &&
		    c->message_len == 0 && (c->frame.flags & CHANNEL_FLAG_MORE) == 0) {
			c->frame_have = 0;
			c->message_open = false;
			if (!c->message_cancelled)
				command_run(g, c->frame.id, data + at, n);
			at += n;
			continue;
		}
		if (c->frame.type == CHANNEL_REQUEST && !c->message_too_long)
			message_add(g, data + at, n);
		if (c->frame.type == CHANNEL_ENVIRONMENT)
			environment_take(g, c->frame.length - c->frame_left, data + at, n);
		at += n;
		c->frame_left -= n;
		if (c->frame_left == 0)
			frame_end(g);
	}
	return at;
}

static void stash_add(struct channel *c, const uint8_t *data, uint32_t len)
{
	while (len > 0) {
		uint32_t at = c->stash_in % CHANNEL_STASH;
		uint32_t n = CHANNEL_STASH - at < len ? CHANNEL_STASH - at : len;

		memcpy(stash + at, data, n);
		c->stash_in += n;
		data += n;
		len -= n;
	}
}

static void stash_parse(struct guest *g)
{
	struct channel *c = &g->channel;

	while (c->stash_in != c->stash_out && c->out_state == OUT_NONE) {
		uint32_t at = c->stash_out % CHANNEL_STASH, n = c->stash_in - c->stash_out;

		if (n > CHANNEL_STASH - at)
			n = CHANNEL_STASH - at;
		n = channel_parse(g, stash + at, n, false);
		c->stash_out += n;
		g->vsock.streams[STREAM_CHANNEL].forwarded += n;
	}
}

bool channel_packet(struct guest *g, struct stream *s, const struct packet *packet)
{
	struct channel *c = &g->channel;
	uint32_t n = 0;

	switch (packet->header->op) {
	case VSOCK_RESPONSE:
		s->state = STREAM_OPEN;
		channel_answer(g, CHANNEL_READY, 0, NULL, 0);
		return false;
	case VSOCK_RW:
		break;
	case VSOCK_SHUTDOWN:
		stream_want(s, VSOCK_RST);
		return false;
	case VSOCK_CREDIT_REQUEST:
		stream_want(s, VSOCK_CREDIT_UPDATE);
		return false;
	default:
		return false;
	}
	s->received += packet->len;
	if (c->stash_in == c->stash_out)
		n = channel_parse(g, packet->data, packet->len, true);
	s->forwarded += n;
	stash_add(c, packet->data + n, packet->len - n);
	if (c->out_state == OUT_NONE || c->out < packet->data ||
	    c->out > packet->data + packet->len)
		return false;
	c->held = packet->buffer;
	return true;
}

/* One packet of the answer. */
static void out_send(struct guest *g, struct stream *s, uint32_t room)
{
	struct channel *c = &g->channel;
	struct channel_header header;
	uint32_t prefix = 0, n;

	if (c->out_frame_left == 0) {
		c->out_frame_left = c->out_left < FRAME_MAX ? c->out_left : FRAME_MAX;
		prefix = sizeof(header);
		header = (struct channel_header){
			.magic = CHANNEL_MAGIC,
			.version = CHANNEL_VERSION,
			.type = c->out_type,
			.flags = c->out_left > FRAME_MAX ? CHANNEL_FLAG_MORE : 0,
			.id = c->out_id,
			.length = c->out_frame_left,
		};
	}
	n = c->out_frame_left < room - prefix ? c->out_frame_left : room - prefix;
	stream_send(&g->vsock, s, &header, prefix, c->out, n);
	c->out += n;
	c->out_left -= n;
	c->out_frame_left -= n;
	if (c->out_left > 0)
		return;
	if (c->again > 0) {
		c->again--;
		channel_bytes(g, c->block, c->block_len);
	} else {
		c->out_state = OUT_SENT;
	}
}

void channel_pump(struct guest *g)
{
	struct channel *c = &g->channel;
	struct stream *s = &g->vsock.streams[STREAM_CHANNEL];

	if (s->state == STREAM_FREE) {
		if (c->held != NO_BUFFER)
			vsock_give_back(&g->vsock, c->held);
		c->held = NO_BUFFER;
		if (c->retries == 0)
			return;
		c->retries--;
		channel_connect(g);
	}
	if (c->out_state == OUT_SENT && s->in_flight == 0) {
		c->out_state = OUT_NONE;
		if (c->held != NO_BUFFER)
			vsock_give_back(&g->vsock, c->held);
		c->held = NO_BUFFER;
		if (c->last.due)
			hostile_last(g);
		else
			stash_parse(g);
	}
	stream_pump(&g->vsock, s);
	while (c->out_state == OUT_SENDING) {
		uint32_t room = stream_room(&g->vsock, s);

		if (room <= sizeof(struct channel_header))
			break;
		out_send(g, s, room);
	}
}
