/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the function channel (docs/function-channel.md): its life, what
 * goes to the guest, save and load. What comes from the guest: parse.c.
 */
#include "devices/channel/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "devices/channel/state.h"

/* A guest that takes nothing while requests are made and cancelled: then no more are queued. */
#define CHANNEL_OUT_MAX        (CHANNEL_PAYLOAD_MAX + (2u << 20))

#define CHANNEL_FIELDS_VERSION 1 /* they are part of section virtio_vsock, and as old as that */

/* clang-format off */
const struct field channel_fields[] = {
	FIELD(struct channel_state, open),
	FIELD(struct channel_state, ready),
	FIELD(struct channel_state, want_restored),
	FIELD(struct channel_state, waiting),
	FIELD(struct channel_state, sink),
	FIELD(struct channel_state, answer_type),
	FIELD(struct channel_state, header_len),
	FIELD_ARRAY(struct channel_state, header),
	FIELD(struct channel_state, left),
	FIELD(struct channel_state, answer_len),
	FIELD(struct channel_state, log_len),
	FIELD(struct channel_state, out_len),
	FIELD(struct channel_state, outstanding),
	FIELD(struct channel_state, dropped),
	FIELD(struct channel_state, skipped),
	FIELD_END
};
/* clang-format on */

struct channel *channel_new(void)
{
	return calloc(1, sizeof(struct channel));
}

void channel_free(struct channel *c)
{
	if (!c)
		return;
	free(c->answer);
	free(c->out);
	free(c);
}

void channel_set_events(struct channel *c, const struct channel_events *events)
{
	c->events = *events;
}

void channel_set_wake(struct channel *c, void (*wake)(void *opaque), void *opaque)
{
	c->wake = wake;
	c->wake_opaque = opaque;
}

bool channel_ready(const struct channel *c)
{
	return c->state.ready != 0;
}

bool channel_is_open(const struct channel *c)
{
	return c->state.open != 0;
}

uint64_t channel_dropped(const struct channel *c)
{
	return c->state.dropped;
}

uint64_t channel_skipped(const struct channel *c)
{
	return c->state.skipped;
}

/* --- Buffers --- */

void channel_drop(uint8_t **buffer, size_t *size)
{
	if (*buffer && *size < CHANNEL_MAPPED)
		explicit_bzero(*buffer, *size);
	free(*buffer);
	*buffer = NULL;
	*size = 0;
}

bool channel_grow(uint8_t **buffer, size_t *size, size_t need, size_t used)
{
	bool mapped = *size >= CHANNEL_MAPPED;
	/* By steps that double: however many parts a message has, its bytes move once or so. */
	size_t want = need > 2 * *size ? need : 2 * *size;
	uint8_t *larger = mapped ? realloc(*buffer, want) : malloc(want);

	if (!larger)
		return false;
	if (!mapped) {
		if (used)
			memcpy(larger, *buffer, used);
		channel_drop(buffer, size);
	}
	*buffer = larger;
	*size = want;
	return true;
}

/* --- To the guest --- */

/* Its first byte; NULL before there was any. */
static const uint8_t *channel_out(const struct channel *c)
{
	return c->out ? c->out + c->out_first : NULL;
}

/* Makes room for len more bytes at the end of the queue. */
static int channel_reserve(struct channel *c, size_t len)
{
	size_t need = c->state.out_len + len;

	if (need > CHANNEL_OUT_MAX)
		return failf(ENOMEM, "the guest does not read the function channel: %u bytes wait",
			     c->state.out_len);
	if (c->out_first + need > c->out_size && c->out_first > 0) {
		memmove(c->out, c->out + c->out_first, c->state.out_len);
		c->out_first = 0;
	}
	if (need > c->out_size && !channel_grow(&c->out, &c->out_size, need, c->state.out_len))
		return failf(ENOMEM, "out of memory for a frame of %zu bytes", len);
	return 0;
}

static int channel_send(struct channel *c, const struct channel_header *header, const void *data)
{
	uint8_t *end;
	int ret = channel_reserve(c, sizeof(*header) + header->length);

	if (ret)
		return ret;
	end = c->out + c->out_first + c->state.out_len;
	memcpy(end, header, sizeof(*header));
	if (header->length)
		memcpy(end + sizeof(*header), data, header->length);
	c->state.out_len += (uint32_t)sizeof(*header) + header->length;
	if (c->wake)
		c->wake(c->wake_opaque);
	return 0;
}

static struct channel_header channel_header_of(enum channel_type type, uint64_t id, size_t len)
{
	return (struct channel_header){
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = (uint8_t)type,
		.id = id,
		.length = (uint32_t)len,
	};
}

static int channel_check_ready(const struct channel *c)
{
	if (!c->state.ready)
		return failf(ENOTCONN, "the guest has not said READY on the function channel");
	return 0;
}

int channel_request(struct channel *c, uint64_t id, const void *data, size_t len,
		    uint64_t deadline_us)
{
	struct channel_header header;
	int ret = channel_check_ready(c);

	if (ret)
		return ret;
	if (len > CHANNEL_PAYLOAD_MAX)
		return failf(EMSGSIZE, "a request of %zu bytes is too long: at most %u", len,
			     CHANNEL_PAYLOAD_MAX);
	if (c->state.waiting)
		return failf(EBUSY, "the guest has not answered the request before");
	header = channel_header_of(CHANNEL_REQUEST, id, len);
	header.deadline = deadline_us;
	c->state.waiting = 1;
	c->state.outstanding = id;
	ret = channel_send(c, &header, data);
	if (ret)
		c->state.waiting = 0;
	return ret;
}

/* Nobody waits any more: what has come of the answer goes, what will come is dropped. */
static void channel_forget(struct channel *c)
{
	c->state.waiting = 0;
	c->state.answer_len = 0;
	if (c->state.sink == CHANNEL_ANSWER)
		c->state.sink = CHANNEL_SKIP;
}

void channel_cancel(struct channel *c)
{
	struct channel_header header;

	if (!c->state.waiting)
		return;
	header = channel_header_of(CHANNEL_CANCEL, c->state.outstanding, 0);
	channel_forget(c);
	channel_send(c, &header, NULL);
}

int channel_quiesce(struct channel *c)
{
	struct channel_header header = channel_header_of(CHANNEL_QUIESCE, 0, 0);
	int ret = channel_check_ready(c);

	return ret ? ret : channel_send(c, &header, NULL);
}

/* Whether these bytes are NAME=VALUE strings, each ended by a NUL byte. */
static bool channel_is_environment(const char *data, size_t len)
{
	while (len > 0) {
		const char *end = memchr(data, '\0', len);

		if (!end || *data == '=' || !memchr(data, '=', (size_t)(end - data)))
			return false;
		len -= (size_t)(end + 1 - data);
		data = end + 1;
	}
	return true;
}

int channel_environment(struct channel *c, const void *data, size_t len)
{
	struct channel_header header;
	int ret = channel_check_ready(c);

	if (ret)
		return ret;
	if (len > CHANNEL_ENVIRONMENT_MAX)
		return failf(E2BIG, "an environment of %zu bytes is too long: at most %u", len,
			     CHANNEL_ENVIRONMENT_MAX);
	if (!channel_is_environment(data, len))
		return failf(EINVAL, "an environment is made of strings NAME=VALUE, each ended by "
				     "a NUL byte");
	header = channel_header_of(CHANNEL_ENVIRONMENT, 0, len);
	return channel_send(c, &header, data);
}

void channel_restored(struct channel *c, const uint8_t *generation_id)
{
	struct channel_header header = channel_header_of(CHANNEL_RESTORED, 0, 16);

	channel_forget(c);
	if (generation_id && c->state.ready && c->state.want_restored)
		channel_send(c, &header, generation_id);
}

size_t channel_pending(const struct channel *c, const void **data)
{
	*data = channel_out(c);
	return c->state.out_len;
}

void channel_consume(struct channel *c, size_t len)
{
	c->state.out_len -= (uint32_t)len;
	c->out_first += len;
	if (c->state.out_len > 0)
		return;
	c->out_first = 0;
	if (c->out_size > CHANNEL_KEEP)
		channel_drop(&c->out, &c->out_size);
}

/* --- Open and closed --- */

static void channel_clear(struct channel *c)
{
	uint64_t dropped = c->state.dropped, skipped = c->state.skipped;

	c->state = (struct channel_state){ .dropped = dropped, .skipped = skipped };
	c->out_first = 0;
}

void channel_wipe(struct channel *c)
{
	channel_drop(&c->answer, &c->answer_size);
	channel_drop(&c->out, &c->out_size);
	explicit_bzero(c->log, sizeof(c->log));
	channel_clear(c);
}

void channel_break(struct channel *c, int err, const char *why)
{
	if (!c->state.open)
		return;
	channel_clear(c);
	if (c->events.broken)
		c->events.broken(c->events.opaque, err, why);
}

void channel_opened(struct channel *c)
{
	channel_clear(c);
	c->state.open = 1;
}

void channel_closed(struct channel *c)
{
	channel_break(c, ECONNRESET, "the guest closed it");
}

/* --- Save and load --- */

void channel_save(const struct channel *c, struct blob *out)
{
	fields_save(channel_fields, &c->state, out);
	blob_put(out, c->answer, c->state.answer_len);
	blob_put(out, c->log, c->state.log_len);
	blob_put(out, channel_out(c), c->state.out_len);
}

/* Whether a state can be one that channel_save() wrote. */
static bool channel_valid(const struct channel_state *s)
{
	struct channel_header frame;

	if (s->open > 1 || s->ready > s->open || s->want_restored > s->ready ||
	    s->waiting > s->ready || s->sink > CHANNEL_TEXT ||
	    s->header_len > CHANNEL_HEADER_SIZE || s->log_len >= CHANNEL_LOG_MAX ||
	    s->out_len > CHANNEL_OUT_MAX || s->answer_len > CHANNEL_PAYLOAD_MAX)
		return false;
	if (!s->open && (s->header_len || s->out_len))
		return false;
	if (s->answer_len && !s->waiting)
		return false;
	if (s->header_len < CHANNEL_HEADER_SIZE)
		return s->left == 0 && s->log_len == 0;

	/* In the middle of a payload. */
	memcpy(&frame, s->header, sizeof(frame));
	if (frame.length > CHANNEL_PAYLOAD_MAX || s->left == 0 || s->left > frame.length)
		return false;
	if (s->log_len && s->sink != CHANNEL_TEXT)
		return false;
	return s->sink != CHANNEL_ANSWER ||
	       (s->waiting && s->left + s->answer_len <= CHANNEL_PAYLOAD_MAX &&
		(frame.type == CHANNEL_RESPONSE || frame.type == CHANNEL_ERROR));
}

int channel_load(struct channel *c, struct blob *in)
{
	struct channel_state *s = &c->state;
	size_t answer_size, out_size;

	fields_load(channel_fields, CHANNEL_FIELDS_VERSION, s, in);
	if (!in->failed && !channel_valid(s)) {
		channel_clear(c);
		return failf(EINVAL, "function channel: its saved state is not valid");
	}
	answer_size = (size_t)s->answer_len + s->left;
	out_size = s->out_len;
	if (in->failed || in->len - in->pos < (size_t)s->answer_len + s->log_len + out_size) {
		channel_clear(c);
		in->failed = true;
		return 0;
	}
	free(c->answer);
	free(c->out);
	c->answer_size = answer_size;
	c->answer = answer_size ? malloc(answer_size) : NULL;
	c->out_first = 0;
	c->out_size = out_size;
	c->out = out_size ? malloc(out_size) : NULL;
	if ((answer_size && !c->answer) || (out_size && !c->out)) {
		channel_clear(c);
		c->answer_size = c->out_size = 0;
		return failf(ENOMEM, "function channel: out of memory");
	}
	blob_get(in, c->answer, s->answer_len);
	blob_get(in, c->log, s->log_len);
	blob_get(in, c->out, out_size);
	return 0;
}
