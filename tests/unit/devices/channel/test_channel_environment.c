/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ENVIRONMENT on the function channel: what is sent, in which order, what is refused;
 * and that whatever is queued reaches the guest whole, however it is fetched and saved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "tests/unit/devices/channel/channel_fixture.h"

/* A string constant with its last NUL, which ends the last variable. */
#define ENVIRONMENT(text) (text), sizeof(text)

static const uint8_t generation[16] = "0123456789abcde";

static void test_not_ready(void **state)
{
	(void)state;
	assert_int_equal(channel_environment(channel, ENVIRONMENT("A=1")), -ENOTCONN);
	channel_opened(channel);
	assert_int_equal(channel_environment(channel, ENVIRONMENT("A=1")), -ENOTCONN);
	assert_non_null(strstr(error_text(), "READY"));
	assert_int_equal(channel_bytes_pending(), 0);
	channel_open_ready(0);
	assert_int_equal(channel_environment(channel, ENVIRONMENT("A=1")), 0);
	channel_closed(channel);
	assert_int_equal(channel_environment(channel, ENVIRONMENT("A=1")), -ENOTCONN);
}

/* Of a clone: RESTORED, ENVIRONMENT, the first request. */
static void test_order(void **state)
{
	struct channel_header header;
	char text[64];

	(void)state;
	channel_open_ready(CHANNEL_FLAG_WANT_RESTORED);
	channel_restored(channel, generation);
	channel_seen.wakes = 0;
	assert_int_equal(channel_environment(channel, ENVIRONMENT("A=1\0LONG_NAME=two = 2\0B=")),
			 0);
	assert_int_equal(channel_seen.wakes, 1);
	assert_int_equal(channel_request(channel, 7, "go", 2, 0), 0);

	assert_int_equal(channel_heard(text, sizeof(text)).type, CHANNEL_RESTORED);
	header = channel_heard(text, sizeof(text));
	assert_int_equal(header.type, CHANNEL_ENVIRONMENT);
	assert_int_equal(header.type, 10); /* on the wire */
	assert_true(header.flags == 0 && header.id == 0 && header.deadline == 0);
	assert_int_equal(header.length, 25);
	assert_memory_equal(text, "A=1\0LONG_NAME=two = 2\0B=", 25);
	assert_int_equal(channel_heard(text, sizeof(text)).type, CHANNEL_REQUEST);
	assert_int_equal(channel_bytes_pending(), 0);

	/* None at all takes the place of those before; a request that waits is not disturbed. */
	assert_int_equal(channel_environment(channel, NULL, 0), 0);
	header = channel_heard(text, sizeof(text));
	assert_true(header.type == CHANNEL_ENVIRONMENT && header.length == 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "done"), 0);
	assert_int_equal(channel_seen.answers, 1);
}

static void test_refused(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
		{ "A=1", 3 },        /* no NUL at its end */
		{ "A=1\0B=2", 7 },   /* nor at that of the second */
		{ "A", 2 },          /* no value */
		{ "=1", 3 },         /* no name */
		{ "A=1\0\0B=2", 9 }, /* an empty string */
		{ "", 1 },           { "A\0=1", 5 },
	};

	(void)state;
	channel_open_ready(0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(channel_environment(channel, bad[i].data, bad[i].len), -EINVAL);
		assert_non_null(strstr(error_text(), "NAME=VALUE"));
	}
	assert_int_equal(channel_bytes_pending(), 0);
	assert_int_equal(channel_request(channel, 1, "x", 1, 0), 0);
}

static void test_size(void **state)
{
	char *data = malloc(CHANNEL_ENVIRONMENT_MAX + 1);
	unsigned count = 0;
	int ret;

	(void)state;
	assert_int_equal(CHANNEL_ENVIRONMENT_MAX, 65536);
	memset(data, 'v', CHANNEL_ENVIRONMENT_MAX + 1);
	memcpy(data, "NAME=", 5);
	data[CHANNEL_ENVIRONMENT_MAX] = '\0';
	channel_open_ready(0);
	assert_int_equal(channel_environment(channel, data, CHANNEL_ENVIRONMENT_MAX + 1), -E2BIG);
	assert_non_null(strstr(error_text(), "65537"));
	data[CHANNEL_ENVIRONMENT_MAX - 1] = '\0';
	assert_int_equal(channel_environment(channel, data, CHANNEL_ENVIRONMENT_MAX), 0);
	assert_int_equal(channel_bytes_pending(), CHANNEL_ENVIRONMENT_MAX + 32);

	/* A guest that reads nothing cannot make us hoard. */
	do {
		ret = channel_environment(channel, data, CHANNEL_ENVIRONMENT_MAX);
	} while (ret == 0 && ++count < 1000);
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(count, 126);
	channel_consume(channel, channel_bytes_pending());
	free(data);
}

/* It is the host's: a guest that sends one is not understood. */
static void test_from_the_guest(void **state)
{
	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_say(CHANNEL_ENVIRONMENT, 0, 0, "A=1"), 0);
	assert_int_equal(channel_skipped(channel), 1);
	assert_true(channel_is_open(channel));
	assert_int_equal(channel_seen.logs, 0);
}

/* --- Any order, any pieces --- */

struct stream {
	uint8_t sent[1 << 18]; /* what the guest ought to get */
	size_t sent_len;
	uint8_t got[1 << 18];
	size_t got_len;
	uint64_t id;
};

static void stream_note(struct stream *s, enum channel_type type, uint64_t id, const void *data,
			size_t len)
{
	assert_true(s->sent_len + 32 + len <= sizeof(s->sent));
	s->sent_len += channel_frame(s->sent + s->sent_len, (uint8_t)type, 0, id, data, len);
}

/* The host says something, or thinks better of a request. */
static void stream_say(struct stream *s)
{
	char data[300];
	size_t len = (size_t)random() % 200;

	switch (random() % 4) {
	case 0:
		memset(data, 'a' + (int)(random() % 26), sizeof(data));
		memcpy(data, "NAME=", 5);
		data[5 + len] = '\0';
		assert_int_equal(channel_environment(channel, data, 6 + len), 0);
		stream_note(s, CHANNEL_ENVIRONMENT, 0, data, 6 + len);
		break;
	case 1:
		memset(data, (int)random(), len);
		if (channel_request(channel, s->id + 1, data, len, 0) == 0)
			stream_note(s, CHANNEL_REQUEST, ++s->id, data, len);
		break;
	case 2:
		len = channel_bytes_pending();
		channel_cancel(channel);
		if (channel_bytes_pending() > len)
			stream_note(s, CHANNEL_CANCEL, s->id, NULL, 0);
		break;
	default:
		channel_restored(channel, generation);
		stream_note(s, CHANNEL_RESTORED, 0, generation, 16);
	}
}

/* The guest fetches a piece. */
static void stream_fetch(struct stream *s)
{
	const void *data;
	size_t len = channel_pending(channel, &data), part = (size_t)random() % 70;

	if (part > len)
		part = len;
	if (part == 0)
		return;
	memcpy(s->got + s->got_len, data, part);
	s->got_len += part;
	channel_consume(channel, part);
}

static void stream_save(void)
{
	struct blob saved = { 0 };
	struct blob in;

	channel_save(channel, &saved);
	channel_free(channel);
	channel = channel_make();
	in = blob_reader(saved.data, saved.len);
	assert_int_equal(channel_load(channel, &in), 0);
	assert_true(!in.failed && in.pos == in.len);
	blob_fini(&saved);
}

static void test_any_pieces(void **state)
{
	struct stream *s = malloc(sizeof(*s));
	unsigned saves = 0;

	(void)state;
	srandom(20261126);
	for (unsigned n = 0; n < 300; n++) {
		s->sent_len = s->got_len = 0;
		s->id = 0;
		channel_free(channel);
		channel = channel_make();
		channel_open_ready(CHANNEL_FLAG_WANT_RESTORED);
		for (unsigned i = 0; i < 500; i++) {
			if (random() % 3 == 0)
				stream_say(s);
			else
				stream_fetch(s);
			if (random() % 40 == 0) {
				stream_save();
				saves++;
			}
		}
		while (channel_bytes_pending() > 0)
			stream_fetch(s);
		assert_int_equal(s->got_len, s->sent_len);
		assert_memory_equal(s->got, s->sent, s->sent_len);
	}
	assert_true(saves > 1000);
	free(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, channel_setup, channel_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_not_ready), TEST(test_order),          TEST(test_refused),
		TEST(test_size),      TEST(test_from_the_guest), TEST(test_any_pieces),
	};

	return cmocka_run_group_tests_name("channel_environment", tests, NULL, NULL);
}
