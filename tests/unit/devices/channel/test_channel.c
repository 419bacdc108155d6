/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the function channel: requests, answers in parts, what is dropped,
 * what breaks it.
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

/* --- Requests and answers --- */

static void test_not_ready(void **state)
{
	(void)state;
	assert_int_equal(channel_request(channel, 1, "x", 1, 0), -ENOTCONN);
	channel_opened(channel);
	assert_int_equal(channel_request(channel, 1, "x", 1, 0), -ENOTCONN);
	assert_int_equal(channel_quiesce(channel), -ENOTCONN);
	assert_string_not_equal(error_text(), "");
	channel_cancel(channel);
	assert_int_equal(channel_bytes_pending(), 0);
}

static void test_request(void **state)
{
	struct channel_header header;
	char text[64];

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_seen.ready, 1);
	assert_int_equal(channel_request(channel, 7, "hello", 5, 1500), 0);
	assert_int_equal(channel_seen.wakes, 1);
	assert_int_equal(channel_request(channel, 8, "more", 4, 0), -EBUSY);
	header = channel_heard(text, sizeof(text));
	assert_int_equal(header.type, CHANNEL_REQUEST);
	assert_int_equal(header.flags, 0);
	assert_true(header.id == 7 && header.deadline == 1500);
	assert_string_equal(text, "hello");
	assert_int_equal(channel_bytes_pending(), 0);

	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "world"), 0);
	assert_int_equal(channel_seen.answers, 1);
	assert_int_equal(channel_seen.type, CHANNEL_RESPONSE);
	assert_int_equal(channel_seen.answer_len, 5);
	assert_memory_equal(channel_seen.answer, "world", 5);
	assert_int_equal(channel_request(channel, 8, "", 0, 0), 0);
	assert_int_equal(channel_say(CHANNEL_ERROR, 0, 8, "no"), 0);
	assert_int_equal(channel_seen.type, CHANNEL_ERROR);
	assert_int_equal(channel_dropped(channel), 0);
}

static void test_request_from_callback(void **state)
{
	char text[64];

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	channel_heard(text, sizeof(text));
	channel_seen.ask_again = true;
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "b"), 0);
	assert_true(channel_heard(text, sizeof(text)).id == 99);
	channel_seen.ask_again = false;
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 99, "c"), 0);
	assert_int_equal(channel_seen.answers, 2);
}

static void test_request_size(void **state)
{
	char *data = calloc(1, CHANNEL_PAYLOAD_MAX + 1);

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 1, data, CHANNEL_PAYLOAD_MAX + 1, 0), -EMSGSIZE);
	assert_int_equal(channel_request(channel, 1, data, CHANNEL_PAYLOAD_MAX, 0), 0);
	assert_int_equal(channel_bytes_pending(), CHANNEL_PAYLOAD_MAX + 32);

	/* A guest that reads nothing cannot channel_make us hoard what is cancelled. */
	channel_cancel(channel);
	assert_int_equal(channel_request(channel, 2, data, CHANNEL_PAYLOAD_MAX, 0), -ENOMEM);
	assert_int_equal(channel_request(channel, 3, data, 100, 0), 0);
	channel_consume(channel, channel_bytes_pending());
	free(data);
}

static void test_other_id(void **state)
{
	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "nobody asked"), 0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 8, "other"), 0);
	assert_int_equal(channel_say(CHANNEL_ERROR, 0, 8, "other"), 0);
	assert_int_equal(channel_dropped(channel), 2);
	assert_int_equal(channel_seen.answers, 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "mine"), 0);
	assert_int_equal(channel_seen.answers, 1);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "again"), 0);
	assert_int_equal(channel_dropped(channel), 3);
}

static void test_cancel(void **state)
{
	char text[64];

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	channel_heard(text, sizeof(text));
	assert_int_equal(channel_say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, "begun"), 0);
	channel_cancel(channel);
	assert_int_equal(channel_heard(text, sizeof(text)).type, CHANNEL_CANCEL);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "ended"), 0);
	assert_int_equal(channel_dropped(channel), 1);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 8, "second"), 0);
	assert_int_equal(channel_seen.answer_len, 6);
}

static void test_cancel_within_frame(void **state)
{
	uint8_t bytes[64];
	size_t len = channel_frame(bytes, CHANNEL_RESPONSE, 0, 7, "partial", 7);

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_receive(channel, bytes, len - 3), 0);
	channel_cancel(channel);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(channel_receive(channel, bytes + len - 3, 3), 0);
	assert_int_equal(channel_dropped(channel), 1);
	assert_int_equal(channel_seen.answers, 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 8, "ok"), 0);
	assert_int_equal(channel_seen.answer_len, 2);
}

static void test_more(void **state)
{
	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, "one,"), 0);
	assert_int_equal(channel_say(CHANNEL_LOG, 0, 7, "between"), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, ""), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "two"), 0);
	assert_int_equal(channel_seen.answers, 1);
	assert_int_equal(channel_seen.answer_len, 7);
	assert_memory_equal(channel_seen.answer, "one,two", 7);
	assert_int_equal(channel_seen.logs, 1);

	/* An error takes the place of an answer that was begun. */
	assert_int_equal(channel_request(channel, 8, "a", 1, 0), 0);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 8, "begun"), 0);
	assert_int_equal(channel_say(CHANNEL_ERROR, 0, 8, "failed"), 0);
	assert_int_equal(channel_seen.type, CHANNEL_ERROR);
	assert_int_equal(channel_seen.answer_len, 6);
}

/* 6 MiB in frames of 1 MiB are an answer; one byte more is not. */
static void test_more_limit(void **state)
{
	size_t part = 1u << 20;
	uint8_t *bytes = calloc(1, part + 32);

	(void)state;
	channel_open_ready(0);
	for (unsigned last = 0; last < 2; last++) {
		int ret = 0;

		assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
		for (unsigned i = 0; i < 6; i++) {
			channel_frame(bytes, CHANNEL_RESPONSE,
				      i < 5 || last ? CHANNEL_FLAG_MORE : 0, 7, NULL, 0);
			((struct channel_header *)(void *)bytes)->length = (uint32_t)part;
			assert_int_equal(channel_receive(channel, bytes, part + 32), 0);
		}
		if (last)
			ret = channel_say(CHANNEL_RESPONSE, 0, 7, "x");
		assert_int_equal(ret, last ? -EPROTO : 0);
		assert_int_equal(channel_seen.answers, 1);
		assert_int_equal(channel_seen.answer_len, CHANNEL_PAYLOAD_MAX);
	}
	assert_int_equal(channel_seen.broken, 1);
	assert_int_equal(channel_seen.err, EMSGSIZE);
	assert_false(channel_ready(channel));
	free(bytes);
}

/* --- Logs, unknown frames, quiesce --- */

static void test_log_in_pieces(void **state)
{
	uint8_t bytes[CHANNEL_STREAM_MAX + 32];
	char text[CHANNEL_STREAM_MAX];

	(void)state;
	channel_opened(channel); /* a guest may log before it is ready */
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	channel_frame(bytes, CHANNEL_LOG, 0, 0, text, sizeof(text) - 1);
	for (unsigned i = 0; i < 32 + sizeof(text) - 1; i += 700) {
		size_t left = 32 + sizeof(text) - 1 - i;

		assert_int_equal(channel_receive(channel, bytes + i, left < 700 ? left : 700), 0);
	}
	assert_int_equal(channel_seen.logs, 2);
	assert_int_equal(channel_seen.log_len, sizeof(text) - 1);
	assert_memory_equal(channel_seen.log, text, sizeof(text) - 1);
}

static void test_unknown_types(void **state)
{
	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_say(0, 0, 7, "?"), 0);
	assert_int_equal(channel_say(200, CHANNEL_FLAG_MORE, 7, "what is this"), 0);
	assert_int_equal(channel_say(CHANNEL_REQUEST, 0, 7, "the host's own"), 0);
	assert_int_equal(channel_skipped(channel), 3);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "ok"), 0);
	assert_int_equal(channel_seen.answers, 1);
}

static void test_quiesce(void **state)
{
	char text[8];

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_quiesce(channel), 0);
	assert_int_equal(channel_heard(text, sizeof(text)).type, CHANNEL_QUIESCE);
	assert_int_equal(channel_say(CHANNEL_QUIESCED, 0, 0, ""), 0);
	assert_int_equal(channel_seen.quiesced, 1);
}

/* --- What breaks it --- */

static void test_protocol_errors(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct channel_header header = { .magic = CHANNEL_MAGIC,
						 .version = CHANNEL_VERSION,
						 .type = CHANNEL_LOG };

		if (i == 0)
			header.magic++;
		else if (i == 1)
			header.version = 2;
		else if (i == 2)
			header.length = CHANNEL_PAYLOAD_MAX + 1;
		else
			header.length = UINT32_MAX;
		channel_open_ready(0);
		assert_int_equal(channel_request(channel, 1, "a", 1, 0), 0);
		assert_int_equal(channel_receive(channel, &header, sizeof(header)), -EPROTO);
		assert_int_equal(channel_seen.broken, i + 1);
		assert_int_equal(channel_seen.err, EPROTO);
		assert_false(channel_ready(channel));
		assert_false(channel_is_open(channel));
		assert_int_equal(channel_bytes_pending(), 0);
		channel_closed(channel); /* says it no second time */
		assert_int_equal(channel_seen.broken, i + 1);
	}
}

static void test_closed(void **state)
{
	(void)state;
	channel_open_ready(0);
	channel_closed(channel);
	assert_int_equal(channel_seen.broken, 1);
	assert_int_equal(channel_seen.err, ECONNRESET);
	assert_string_not_equal(channel_seen.why, "");
	assert_int_equal(channel_request(channel, 1, "a", 1, 0), -ENOTCONN);
	channel_open_ready(0);
	assert_int_equal(channel_seen.ready, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, channel_setup, channel_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_not_ready),
		TEST(test_request),
		TEST(test_request_from_callback),
		TEST(test_request_size),
		TEST(test_other_id),
		TEST(test_cancel),
		TEST(test_cancel_within_frame),
		TEST(test_more),
		TEST(test_more_limit),
		TEST(test_log_in_pieces),
		TEST(test_unknown_types),
		TEST(test_quiesce),
		TEST(test_protocol_errors),
		TEST(test_closed),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
