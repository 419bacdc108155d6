/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams beside the function channel: the echo port, whose unsent bytes are the
 * credit it holds back, and the request `connect`.
 */
#include "guest/builtin/server.h"

#define ECHO_BUFFER 16384u

static uint8_t echo_buffers[STREAM_COUNT - STREAM_ECHO][ECHO_BUFFER];

static uint8_t *echo_buffer(struct guest *g, const struct stream *s)
{
	return echo_buffers[s - &g->vsock.streams[STREAM_ECHO]];
}

void echo_accept(struct guest *g, const struct packet *packet)
{
	struct stream *streams = g->vsock.streams, *found = NULL;

	for (uint32_t i = STREAM_ECHO; i < STREAM_COUNT && found == NULL; i++) {
		if (streams[i].state == STREAM_FREE)
			found = &streams[i];
	}
	/* One whose peer never answers our SHUTDOWN is given up for a new one. */
	for (uint32_t i = STREAM_ECHO; i < STREAM_COUNT && found == NULL; i++) {
		if (streams[i].state == STREAM_CLOSING)
			found = &streams[i];
	}
	if (found == NULL) {
		vsock_refuse(&g->vsock, packet);
		return;
	}
	stream_free(&g->vsock, found);
	stream_accept(found, packet, ECHO_BUFFER);
}

/* What streams other than the channel do alike. */
static void stream_control(struct guest *g, struct stream *s, const struct packet *packet)
{
	switch (packet->header->op) {
	case VSOCK_RST:
		stream_free(&g->vsock, s);
		break;
	case VSOCK_SHUTDOWN:
		s->peer_shutdown |= (uint8_t)packet->header->flags;
		break;
	case VSOCK_CREDIT_REQUEST:
		stream_want(s, VSOCK_CREDIT_UPDATE);
		break;
	default:
		break;
	}
}

void echo_packet(struct guest *g, struct stream *s, const struct packet *packet)
{
	uint8_t *buffer = echo_buffer(g, s);
	uint32_t at = s->received % ECHO_BUFFER, n = ECHO_BUFFER - at;

	if (packet->header->op != VSOCK_RW) {
		stream_control(g, s, packet);
		return;
	}
	/* Beyond the credit it had: such a peer cannot be served. */
	if (packet->len > ECHO_BUFFER - (s->received - s->forwarded)) {
		stream_want(s, VSOCK_RST);
		return;
	}
	n = n < packet->len ? n : packet->len;
	memcpy(buffer + at, packet->data, n);
	memcpy(buffer, packet->data + n, packet->len - n);
	s->received += packet->len;
}

/* Ends our side when the peer will send no more and has everything. */
static void stream_finish(struct stream *s)
{
	if (s->state != STREAM_OPEN || s->in_flight > 0)
		return;
	if ((s->peer_shutdown & VSOCK_SHUTDOWN_RECV) != 0) {
		stream_want(s, VSOCK_RST);
	} else if ((s->peer_shutdown & VSOCK_SHUTDOWN_SEND) != 0 && s->sent == s->received) {
		stream_want(s, VSOCK_SHUTDOWN);
		s->state = STREAM_CLOSING;
	}
}

void echo_pump(struct guest *g, struct stream *s)
{
	uint32_t room;

	s->forwarded = s->sent_done;
	stream_pump(&g->vsock, s);
	while (s->received != s->sent && (room = stream_room(&g->vsock, s)) > 0) {
		uint32_t at = s->sent % ECHO_BUFFER, n = s->received - s->sent;

		n = n < room ? n : room;
		n = n < ECHO_BUFFER - at ? n : ECHO_BUFFER - at;
		stream_send(&g->vsock, s, "", 0, echo_buffer(g, s) + at, n);
	}
	stream_finish(s);
	stream_pump(&g->vsock, s);
}

void command_connect(struct guest *g, const struct request *r)
{
	struct outgoing *o = &g->outgoing;
	uint8_t *message = g->memory.message, *end;
	const uint8_t *text = r->text;
	uint32_t len = r->len;
	uint64_t port;

	if (!number_read(&text, &len, &port) || port >= UINT32_MAX) {
		channel_error(g, r->id, "connect: a port number and a text are meant");
		return;
	}
	if (text < message || text > message + g->memory.message_size) {
		memcpy(message, text, len);
		text = message;
	}
	end = message + g->memory.message_size;
	*o = (struct outgoing){
		.active = true,
		.id = r->id,
		.text = text,
		.text_left = len,
		.answer = message + (text - message) + len,
	};
	o->answer_max = (uint32_t)(end - o->answer);
	stream_free(&g->vsock, &g->vsock.streams[STREAM_OUTGOING]);
	stream_connect(&g->vsock.streams[STREAM_OUTGOING], g->next_port++, (uint32_t)port,
		       CHANNEL_STASH);
}

void outgoing_cancel(struct guest *g)
{
	struct stream *s = &g->vsock.streams[STREAM_OUTGOING];

	g->outgoing.active = false;
	if (s->state == STREAM_CONNECTING || s->state == STREAM_OPEN)
		stream_want(s, VSOCK_RST);
}

void outgoing_packet(struct guest *g, struct stream *s, const struct packet *packet)
{
	struct outgoing *o = &g->outgoing;
	uint32_t n = packet->len;

	if (packet->header->op == VSOCK_RESPONSE && s->state == STREAM_CONNECTING)
		s->state = STREAM_OPEN;
	if (packet->header->op == VSOCK_RST && s->state == STREAM_CONNECTING && o->active) {
		o->active = false;
		channel_error(g, o->id, "connect: the host refused the connection");
	}
	if (packet->header->op != VSOCK_RW) {
		stream_control(g, s, packet);
		return;
	}
	s->received += n;
	s->forwarded += n;
	if (!o->active || n > o->answer_max - o->answer_len) {
		if (o->active)
			channel_error(g, o->id, "connect: the answer does not fit into memory");
		outgoing_cancel(g);
		return;
	}
	memcpy(o->answer + o->answer_len, packet->data, n);
	o->answer_len += n;
}

void outgoing_pump(struct guest *g, struct stream *s)
{
	struct outgoing *o = &g->outgoing;
	uint32_t room;

	if (s->state != STREAM_FREE)
		stream_pump(&g->vsock, s);
	while (o->active && o->text_left > 0 && (room = stream_room(&g->vsock, s)) > 0) {
		uint32_t n = room < o->text_left ? room : o->text_left;

		stream_send(&g->vsock, s, "", 0, o->text, n);
		o->text += n;
		o->text_left -= n;
	}
	if (o->active && s->state != STREAM_CONNECTING &&
	    (s->state == STREAM_FREE || s->peer_shutdown & VSOCK_SHUTDOWN_SEND) &&
	    g->channel.out_state == OUT_NONE) {
		o->active = false;
		if (s->state == STREAM_OPEN)
			stream_want(s, VSOCK_RST);
		if (s->state != STREAM_FREE)
			stream_pump(&g->vsock, s);
		channel_answer(g, CHANNEL_RESPONSE, o->id, o->answer, o->answer_len);
	}
}
