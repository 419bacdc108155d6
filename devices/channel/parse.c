/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function channel from the guest to the host: frames out of bytes that come in
 * any pieces (docs/function-channel.md).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/channel/state.h"

/* --- From the guest --- */

static struct channel_header channel_frame(const struct channel *c)
{
	struct channel_header header;

	memcpy(&header, c->state.header, sizeof(header));
	return header;
}

static int channel_error(struct channel *c, int err, const char *why)
{
	channel_break(c, err, why);
	return -EPROTO;
}

/* A frame of the outstanding request's answer: makes room for it behind what came before. */
static int channel_begin_answer(struct channel *c, const struct channel_header *frame)
{
	struct channel_state *s = &c->state;
	size_t need;

	/* An ERROR takes the place of a RESPONSE that was begun. */
	if (s->answer_type != frame->type)
		s->answer_len = 0;
	s->answer_type = frame->type;
	need = (size_t)s->answer_len + frame->length;
	if (need > CHANNEL_PAYLOAD_MAX)
		return channel_error(c, EMSGSIZE, "an answer is longer than 6 MiB");
	s->sink = CHANNEL_ANSWER;
	if (need > c->answer_size &&
	    !channel_grow(&c->answer, &c->answer_size, need, s->answer_len))
		return channel_error(c, ENOMEM, "out of memory for an answer");
	return 0;
}

/* The header is complete: checks it and decides where the payload goes. */
static int channel_begin(struct channel *c)
{
	struct channel_header frame = channel_frame(c);

	if (frame.magic != CHANNEL_MAGIC)
		return channel_error(c, EPROTO, "a frame does not begin with the magic number");
	if (frame.version != CHANNEL_VERSION)
		return channel_error(c, EPROTO, "a frame has another version of the protocol");
	if (frame.length > CHANNEL_PAYLOAD_MAX)
		return channel_error(c, frame.type == CHANNEL_RESPONSE ? EMSGSIZE : EPROTO,
				     "a frame is longer than 6 MiB");
	c->state.left = frame.length;
	c->state.sink = CHANNEL_SKIP;

	switch (frame.type) {
	case CHANNEL_RESPONSE:
	case CHANNEL_ERROR:
		if (c->state.waiting && frame.id == c->state.outstanding)
			return channel_begin_answer(c, &frame);
		return 0;
	case CHANNEL_LOG:
		c->state.sink = CHANNEL_TEXT;
		return 0;
	case CHANNEL_READY:
	case CHANNEL_QUIESCED:
		return 0;
	default: /* of a later version, or the host's own */
		c->state.skipped++;
		return 0;
	}
}

static void channel_flush_log(struct channel *c)
{
	uint32_t len = c->state.log_len;

	c->state.log_len = 0;
	if (len && c->events.log)
		c->events.log(c->events.opaque, c->log, len);
}

static void channel_end_answer(struct channel *c, const struct channel_header *frame)
{
	uint32_t len = c->state.answer_len;

	if (frame->flags & CHANNEL_FLAG_MORE)
		return;
	if (c->state.sink != CHANNEL_ANSWER) {
		c->state.dropped++;
		return;
	}
	/* The owner may send the next request from its callback. */
	c->state.waiting = 0;
	c->state.answer_len = 0;
	c->state.sink = CHANNEL_SKIP;
	if (c->events.answer)
		c->events.answer(c->events.opaque, frame->type, c->answer, len);
	if (c->answer_size > CHANNEL_KEEP)
		channel_drop(&c->answer, &c->answer_size);
}

static void channel_end_ready(struct channel *c, const struct channel_header *frame)
{
	bool first = !c->state.ready;

	c->state.ready = 1;
	c->state.want_restored = (frame->flags & CHANNEL_FLAG_WANT_RESTORED) != 0;
	if (first && c->events.ready)
		c->events.ready(c->events.opaque);
}

/* The frame is complete. */
static void channel_end(struct channel *c)
{
	struct channel_header frame = channel_frame(c);

	c->state.header_len = 0;
	switch (frame.type) {
	case CHANNEL_READY:
		channel_end_ready(c, &frame);
		break;
	case CHANNEL_RESPONSE:
	case CHANNEL_ERROR:
		channel_end_answer(c, &frame);
		break;
	case CHANNEL_LOG:
		channel_flush_log(c);
		break;
	case CHANNEL_QUIESCED:
		if (c->events.quiesced)
			c->events.quiesced(c->events.opaque);
		break;
	default:
		break;
	}
}

/* Takes payload, as much of it as there is room for at once. */
static size_t channel_payload(struct channel *c, const uint8_t *data, size_t len)
{
	struct channel_state *s = &c->state;

	if (len > s->left)
		len = s->left;
	if (s->sink == CHANNEL_TEXT) {
		if (len > CHANNEL_LOG_MAX - s->log_len)
			len = CHANNEL_LOG_MAX - s->log_len;
		memcpy(c->log + s->log_len, data, len);
		s->log_len += (uint32_t)len;
	} else if (s->sink == CHANNEL_ANSWER) {
		memcpy(c->answer + s->answer_len, data, len);
		s->answer_len += (uint32_t)len;
	}
	s->left -= (uint32_t)len;
	if (s->log_len == CHANNEL_LOG_MAX)
		channel_flush_log(c);
	return len;
}

/* data is guest memory: each byte is read once, into our own. */
int channel_receive(struct channel *c, const void *data, size_t len)
{
	struct channel_state *s = &c->state;
	const uint8_t *at = data;

	while (len > 0) {
		size_t part;

		if (s->header_len < CHANNEL_HEADER_SIZE) {
			part = CHANNEL_HEADER_SIZE - s->header_len;
			if (part > len)
				part = len;
			memcpy(s->header + s->header_len, at, part);
			s->header_len = (uint8_t)(s->header_len + part);
			if (s->header_len == CHANNEL_HEADER_SIZE && channel_begin(c) < 0)
				return -EPROTO;
		} else {
			part = channel_payload(c, at, len);
		}
		if (s->header_len == CHANNEL_HEADER_SIZE && s->left == 0)
			channel_end(c);
		at += part;
		len -= part;
	}
	return 0;
}
