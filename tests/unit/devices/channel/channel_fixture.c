/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/devices/channel/channel_fixture.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/devices/channel/channel_fixture.h"

struct channel_seen channel_seen;
struct channel *channel;

static void on_ready(void *opaque)
{
	(void)opaque;
	channel_seen.ready++;
}

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	channel_seen.answers++;
	channel_seen.type = type;
	channel_seen.answer_len = len;
	if (len)
		memcpy(channel_seen.answer, data,
		       len < CHANNEL_STREAM_MAX ? len : CHANNEL_STREAM_MAX);
	if (channel_seen.ask_again)
		assert_int_equal(channel_request(opaque, 99, "next", 4, 0), 0);
}

static void on_log(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	channel_seen.logs++;
	if (len <= sizeof(channel_seen.log) - channel_seen.log_len) {
		memcpy(channel_seen.log + channel_seen.log_len, data, len);
		channel_seen.log_len += len;
	}
}

static void on_quiesced(void *opaque)
{
	(void)opaque;
	channel_seen.quiesced++;
}

static void on_broken(void *opaque, int err, const char *why)
{
	(void)opaque;
	channel_seen.err = err;
	channel_seen.broken++;
	strncpy(channel_seen.why, why, sizeof(channel_seen.why) - 1);
}

static void on_wake(void *opaque)
{
	(void)opaque;
	channel_seen.wakes++;
}

struct channel *channel_make(void)
{
	struct channel *c = channel_new();
	const struct channel_events events = {
		.ready = on_ready,
		.answer = on_answer,
		.log = on_log,
		.quiesced = on_quiesced,
		.broken = on_broken,
		.opaque = c,
	};

	assert_non_null(c);
	channel_set_events(c, &events);
	channel_set_wake(c, on_wake, NULL);
	return c;
}

int channel_setup(void **state)
{
	(void)state;
	memset(&channel_seen, 0, sizeof(channel_seen));
	channel = channel_make();
	return 0;
}

int channel_teardown(void **state)
{
	(void)state;
	channel_free(channel);
	return 0;
}

/* --- The guest --- */

size_t channel_frame(uint8_t *at, uint8_t type, uint8_t flags, uint64_t id, const void *data,
		     size_t len)
{
	struct channel_header header = {
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = type,
		.flags = flags,
		.id = id,
		.length = (uint32_t)len,
	};

	memcpy(at, &header, sizeof(header));
	if (len)
		memcpy(at + sizeof(header), data, len);
	return sizeof(header) + len;
}

int channel_say(uint8_t type, uint8_t flags, uint64_t id, const char *text)
{
	uint8_t bytes[CHANNEL_STREAM_MAX];

	return channel_receive(channel, bytes,
			       channel_frame(bytes, type, flags, id, text, strlen(text)));
}

void channel_open_ready(uint8_t flags)
{
	channel_opened(channel);
	assert_int_equal(channel_say(CHANNEL_READY, flags, 0, ""), 0);
	assert_true(channel_ready(channel));
}

/* The next channel_frame that waits for the guest. */
struct channel_header channel_heard(char *text, size_t size)
{
	struct channel_header header = { 0 };
	const void *data;
	size_t len = channel_pending(channel, &data);

	assert_true(len >= sizeof(header));
	memcpy(&header, data, sizeof(header));
	assert_true(len >= sizeof(header) + header.length && header.length < size);
	memcpy(text, (const char *)data + sizeof(header), header.length);
	text[header.length] = 0;
	channel_consume(channel, sizeof(header) + header.length);
	assert_int_equal(header.magic, CHANNEL_MAGIC);
	assert_int_equal(header.version, CHANNEL_VERSION);
	assert_int_equal(header.reserved, 0);
	return header;
}

size_t channel_bytes_pending(void)
{
	const void *data;

	return channel_pending(channel, &data);
}

size_t channel_script(uint8_t *bytes)
{
	size_t len = 0;

	len += channel_frame(bytes + len, CHANNEL_READY, 0, 0, NULL, 0);
	len += channel_frame(bytes + len, 77, 0, 0, "skip me", 7);
	len += channel_frame(bytes + len, CHANNEL_LOG, 0, 0, "a log line\n", 11);
	len += channel_frame(bytes + len, CHANNEL_RESPONSE, 0, 3, "not yours", 9);
	return len;
}
