/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the function channel: frames cut anywhere, answers in parts,
 * what is dropped, what breaks it, noise, and what a snapshot keeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/error.h"
#include "devices/channel.h"

#define STREAM_MAX 8192

static struct {
	unsigned ready, answers, logs, quiesced, broken, wakes;
	enum channel_type type;
	uint8_t answer[STREAM_MAX];
	size_t answer_len;
	char log[16384];
	size_t log_len;
	char why[80];
	bool ask_again; /* send the next request from the answer's callback */
} seen;

static struct channel *channel;

static void on_ready(void *opaque)
{
	(void)opaque;
	seen.ready++;
}

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	seen.answers++;
	seen.type = type;
	seen.answer_len = len;
	if (len)
		memcpy(seen.answer, data, len < STREAM_MAX ? len : STREAM_MAX);
	if (seen.ask_again)
		assert_int_equal(channel_request(opaque, 99, "next", 4, 0), 0);
}

static void on_log(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	seen.logs++;
	if (len <= sizeof(seen.log) - seen.log_len) {
		memcpy(seen.log + seen.log_len, data, len);
		seen.log_len += len;
	}
}

static void on_quiesced(void *opaque)
{
	(void)opaque;
	seen.quiesced++;
}

static void on_broken(void *opaque, const char *why)
{
	(void)opaque;
	seen.broken++;
	strncpy(seen.why, why, sizeof(seen.why) - 1);
}

static void on_wake(void *opaque)
{
	(void)opaque;
	seen.wakes++;
}

static struct channel *make(void)
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

static int setup(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	channel = make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_free(channel);
	return 0;
}

/* --- The guest --- */

static size_t frame(uint8_t *at, uint8_t type, uint8_t flags, uint64_t id, const void *data,
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

static int say(uint8_t type, uint8_t flags, uint64_t id, const char *text)
{
	uint8_t bytes[STREAM_MAX];

	return channel_receive(channel, bytes, frame(bytes, type, flags, id, text, strlen(text)));
}

static void open_ready(uint8_t flags)
{
	channel_opened(channel);
	assert_int_equal(say(CHANNEL_READY, flags, 0, ""), 0);
	assert_true(channel_ready(channel));
}

/* The next frame that waits for the guest. */
static struct channel_header heard(char *text, size_t size)
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

static size_t pending(void)
{
	const void *data;

	return channel_pending(channel, &data);
}

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
	assert_int_equal(pending(), 0);
}

static void test_request(void **state)
{
	struct channel_header header;
	char text[64];

	(void)state;
	open_ready(0);
	assert_int_equal(seen.ready, 1);
	assert_int_equal(channel_request(channel, 7, "hello", 5, 1500), 0);
	assert_int_equal(seen.wakes, 1);
	assert_int_equal(channel_request(channel, 8, "more", 4, 0), -EBUSY);
	header = heard(text, sizeof(text));
	assert_int_equal(header.type, CHANNEL_REQUEST);
	assert_int_equal(header.flags, 0);
	assert_true(header.id == 7 && header.deadline == 1500);
	assert_string_equal(text, "hello");
	assert_int_equal(pending(), 0);

	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "world"), 0);
	assert_int_equal(seen.answers, 1);
	assert_int_equal(seen.type, CHANNEL_RESPONSE);
	assert_int_equal(seen.answer_len, 5);
	assert_memory_equal(seen.answer, "world", 5);
	assert_int_equal(channel_request(channel, 8, "", 0, 0), 0);
	assert_int_equal(say(CHANNEL_ERROR, 0, 8, "no"), 0);
	assert_int_equal(seen.type, CHANNEL_ERROR);
	assert_int_equal(channel_dropped(channel), 0);
}

static void test_request_from_callback(void **state)
{
	char text[64];

	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	heard(text, sizeof(text));
	seen.ask_again = true;
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "b"), 0);
	assert_true(heard(text, sizeof(text)).id == 99);
	seen.ask_again = false;
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 99, "c"), 0);
	assert_int_equal(seen.answers, 2);
}

static void test_request_size(void **state)
{
	char *data = calloc(1, CHANNEL_PAYLOAD_MAX + 1);

	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 1, data, CHANNEL_PAYLOAD_MAX + 1, 0), -EMSGSIZE);
	assert_int_equal(channel_request(channel, 1, data, CHANNEL_PAYLOAD_MAX, 0), 0);
	assert_int_equal(pending(), CHANNEL_PAYLOAD_MAX + 32);

	/* A guest that reads nothing cannot make us hoard what is cancelled. */
	channel_cancel(channel);
	assert_int_equal(channel_request(channel, 2, data, CHANNEL_PAYLOAD_MAX, 0), -ENOMEM);
	assert_int_equal(channel_request(channel, 3, data, 100, 0), 0);
	channel_consume(channel, pending());
	free(data);
}

static void test_other_id(void **state)
{
	(void)state;
	open_ready(0);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "nobody asked"), 0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 8, "other"), 0);
	assert_int_equal(say(CHANNEL_ERROR, 0, 8, "other"), 0);
	assert_int_equal(channel_dropped(channel), 2);
	assert_int_equal(seen.answers, 0);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "mine"), 0);
	assert_int_equal(seen.answers, 1);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "again"), 0);
	assert_int_equal(channel_dropped(channel), 3);
}

static void test_cancel(void **state)
{
	char text[64];

	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	heard(text, sizeof(text));
	assert_int_equal(say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, "begun"), 0);
	channel_cancel(channel);
	assert_int_equal(heard(text, sizeof(text)).type, CHANNEL_CANCEL);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "ended"), 0);
	assert_int_equal(channel_dropped(channel), 1);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 8, "second"), 0);
	assert_int_equal(seen.answer_len, 6);
}

static void test_cancel_within_frame(void **state)
{
	uint8_t bytes[64];
	size_t len = frame(bytes, CHANNEL_RESPONSE, 0, 7, "partial", 7);

	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_receive(channel, bytes, len - 3), 0);
	channel_cancel(channel);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(channel_receive(channel, bytes + len - 3, 3), 0);
	assert_int_equal(channel_dropped(channel), 1);
	assert_int_equal(seen.answers, 0);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 8, "ok"), 0);
	assert_int_equal(seen.answer_len, 2);
}

static void test_more(void **state)
{
	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, "one,"), 0);
	assert_int_equal(say(CHANNEL_LOG, 0, 7, "between"), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 7, ""), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "two"), 0);
	assert_int_equal(seen.answers, 1);
	assert_int_equal(seen.answer_len, 7);
	assert_memory_equal(seen.answer, "one,two", 7);
	assert_int_equal(seen.logs, 1);

	/* An error takes the place of an answer that was begun. */
	assert_int_equal(channel_request(channel, 8, "a", 1, 0), 0);
	assert_int_equal(say(CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 8, "begun"), 0);
	assert_int_equal(say(CHANNEL_ERROR, 0, 8, "failed"), 0);
	assert_int_equal(seen.type, CHANNEL_ERROR);
	assert_int_equal(seen.answer_len, 6);
}

/* 6 MiB in frames of 1 MiB are an answer; one byte more is not. */
static void test_more_limit(void **state)
{
	size_t part = 1u << 20;
	uint8_t *bytes = calloc(1, part + 32);

	(void)state;
	open_ready(0);
	for (unsigned last = 0; last < 2; last++) {
		int ret = 0;

		assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
		for (unsigned i = 0; i < 6; i++) {
			frame(bytes, CHANNEL_RESPONSE, i < 5 || last ? CHANNEL_FLAG_MORE : 0, 7,
			      NULL, 0);
			((struct channel_header *)(void *)bytes)->length = (uint32_t)part;
			assert_int_equal(channel_receive(channel, bytes, part + 32), 0);
		}
		if (last)
			ret = say(CHANNEL_RESPONSE, 0, 7, "x");
		assert_int_equal(ret, last ? -EPROTO : 0);
		assert_int_equal(seen.answers, 1);
		assert_int_equal(seen.answer_len, CHANNEL_PAYLOAD_MAX);
	}
	assert_int_equal(seen.broken, 1);
	assert_false(channel_ready(channel));
	free(bytes);
}

/* --- Logs, unknown frames, quiesce --- */

static void test_log_in_pieces(void **state)
{
	uint8_t bytes[STREAM_MAX + 32];
	char text[STREAM_MAX];

	(void)state;
	channel_opened(channel); /* a guest may log before it is ready */
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	frame(bytes, CHANNEL_LOG, 0, 0, text, sizeof(text) - 1);
	for (unsigned i = 0; i < 32 + sizeof(text) - 1; i += 700) {
		size_t left = 32 + sizeof(text) - 1 - i;

		assert_int_equal(channel_receive(channel, bytes + i, left < 700 ? left : 700), 0);
	}
	assert_int_equal(seen.logs, 2);
	assert_int_equal(seen.log_len, sizeof(text) - 1);
	assert_memory_equal(seen.log, text, sizeof(text) - 1);
}

static void test_unknown_types(void **state)
{
	(void)state;
	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(say(0, 0, 7, "?"), 0);
	assert_int_equal(say(200, CHANNEL_FLAG_MORE, 7, "what is this"), 0);
	assert_int_equal(say(CHANNEL_REQUEST, 0, 7, "the host's own"), 0);
	assert_int_equal(channel_skipped(channel), 3);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "ok"), 0);
	assert_int_equal(seen.answers, 1);
}

static void test_quiesce(void **state)
{
	char text[8];

	(void)state;
	open_ready(0);
	assert_int_equal(channel_quiesce(channel), 0);
	assert_int_equal(heard(text, sizeof(text)).type, CHANNEL_QUIESCE);
	assert_int_equal(say(CHANNEL_QUIESCED, 0, 0, ""), 0);
	assert_int_equal(seen.quiesced, 1);
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
		open_ready(0);
		assert_int_equal(channel_request(channel, 1, "a", 1, 0), 0);
		assert_int_equal(channel_receive(channel, &header, sizeof(header)), -EPROTO);
		assert_int_equal(seen.broken, i + 1);
		assert_false(channel_ready(channel));
		assert_false(channel_is_open(channel));
		assert_int_equal(pending(), 0);
		channel_closed(channel); /* says it no second time */
		assert_int_equal(seen.broken, i + 1);
	}
}

static void test_closed(void **state)
{
	(void)state;
	open_ready(0);
	channel_closed(channel);
	assert_int_equal(seen.broken, 1);
	assert_string_not_equal(seen.why, "");
	assert_int_equal(channel_request(channel, 1, "a", 1, 0), -ENOTCONN);
	open_ready(0);
	assert_int_equal(seen.ready, 2);
}

/* --- Cuts and noise --- */

static size_t script(uint8_t *bytes)
{
	size_t len = 0;

	len += frame(bytes + len, CHANNEL_READY, 0, 0, NULL, 0);
	len += frame(bytes + len, 77, 0, 0, "skip me", 7);
	len += frame(bytes + len, CHANNEL_LOG, 0, 0, "a log line\n", 11);
	len += frame(bytes + len, CHANNEL_RESPONSE, 0, 3, "not yours", 9);
	return len;
}

static size_t answer_script(uint8_t *bytes)
{
	size_t len = frame(bytes, CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 5, "first ", 6);

	len += frame(bytes + len, CHANNEL_LOG, 0, 5, "aside", 5);
	len += frame(bytes + len, CHANNEL_RESPONSE, 0, 5, "second", 6);
	return len;
}

/* The same stream, cut in two at every byte; at the cut the channel is saved and loaded. */
static void test_cut_at_every_byte(void **state)
{
	uint8_t one[512], two[512];
	size_t one_len = script(one), two_len = answer_script(two);

	(void)state;
	for (size_t cut = 0; cut <= two_len; cut++) {
		struct blob saved = { 0 }, again = { 0 };
		struct blob in;

		memset(&seen, 0, sizeof(seen));
		channel_free(channel);
		channel = make();
		channel_opened(channel);
		for (size_t i = 0; i < one_len; i++)
			assert_int_equal(channel_receive(channel, one + i, 1), 0);
		assert_int_equal(channel_request(channel, 5, "go", 2, 0), 0);
		assert_int_equal(channel_receive(channel, two, cut), 0);

		channel_save(channel, &saved);
		channel_free(channel);
		channel = make();
		in = blob_reader(saved.data, saved.len);
		assert_int_equal(channel_load(channel, &in), 0);
		assert_false(in.failed);
		assert_int_equal(in.pos, in.len);
		channel_save(channel, &again);
		assert_int_equal(saved.len, again.len);
		assert_memory_equal(saved.data, again.data, saved.len);

		assert_int_equal(channel_receive(channel, two + cut, two_len - cut), 0);
		assert_int_equal(seen.ready, 1);
		assert_int_equal(seen.answers, 1);
		assert_int_equal(seen.answer_len, 12);
		assert_memory_equal(seen.answer, "first second", 12);
		assert_int_equal(seen.log_len, 16);
		assert_memory_equal(seen.log, "a log line\naside", 16);
		assert_int_equal(channel_skipped(channel), 1);
		assert_int_equal(channel_dropped(channel), 1);
		assert_int_equal(pending(), 34);
		blob_fini(&saved);
		blob_fini(&again);
	}
}

/* Frames with some of their bytes changed, in pieces of any length. */
static void test_noise(void **state)
{
	unsigned broken = 0;

	(void)state;
	srandom(20261123);
	for (unsigned n = 0; n < 20000; n++) {
		uint8_t bytes[1024];
		size_t len, at = 0;
		int ret = 0;

		/* Anew each time: a length that was hit would swallow the next thousand. */
		open_ready(0);
		assert_int_equal(channel_request(channel, 5, "go", 2, 0), 0);
		len = script(bytes);
		len += answer_script(bytes + len);
		for (long i = random() % 4; i > 0; i--)
			bytes[random() % (long)len] = (uint8_t)random();
		while (at < len && ret == 0) {
			size_t part = (size_t)random() % 40;

			if (part > len - at)
				part = len - at;
			ret = channel_receive(channel, bytes + at, part);
			at += part;
		}
		broken += ret != 0;
		assert_true((ret != 0) == !channel_is_open(channel));
	}
	assert_true(broken > 1000 && broken < 19000);
	assert_true(seen.answers > 1000);
	assert_int_equal(seen.broken, broken);
}

/* --- Restore --- */

static void test_restored(void **state)
{
	static const uint8_t generation[16] = "0123456789abcde";
	char text[64];

	(void)state;
	open_ready(CHANNEL_FLAG_WANT_RESTORED);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	heard(text, sizeof(text));
	channel_restored(channel, generation);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(heard(text, sizeof(text)).type, CHANNEL_RESTORED);
	assert_memory_equal(text, generation, 16);
	assert_true(heard(text, sizeof(text)).id == 8);
	assert_int_equal(say(CHANNEL_RESPONSE, 0, 7, "late"), 0);
	assert_int_equal(channel_dropped(channel), 1);

	/* A guest that did not ask for it hears nothing. */
	open_ready(0);
	channel_restored(channel, generation);
	assert_int_equal(pending(), 0);
}

static void save_to(struct blob *saved)
{
	uint8_t bytes[64];
	size_t len = frame(bytes, CHANNEL_RESPONSE, 0, 7, "partial", 7);

	open_ready(0);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	assert_int_equal(channel_receive(channel, bytes, len - 3), 0);
	channel_save(channel, saved);
}

static void test_load_truncated(void **state)
{
	struct blob saved = { 0 };

	(void)state;
	save_to(&saved);
	for (size_t len = 0; len < saved.len; len++) {
		struct channel *c = channel_new();
		struct blob in = blob_reader(saved.data, len);

		assert_true(channel_load(c, &in) < 0 || in.failed);
		assert_false(channel_is_open(c));
		channel_free(c);
	}
	blob_fini(&saved);
}

/* Whatever a state says, nothing is read or written where it should not be. */
static void test_load_noise(void **state)
{
	struct blob saved = { 0 };
	unsigned good = 0, bad = 0;

	(void)state;
	save_to(&saved);
	srandom(20261123);
	for (unsigned n = 0; n < 20000; n++) {
		uint8_t *copy = malloc(saved.len);
		struct channel *c = channel_new();
		struct blob in = blob_reader(copy, saved.len);

		memcpy(copy, saved.data, saved.len);
		for (long i = random() % 3; i >= 0; i--)
			copy[random() % (long)saved.len] =
				(uint8_t)(random() % 4 ? random() % 8 : random());
		if (channel_load(c, &in) == 0 && !in.failed) {
			uint8_t bytes[256];
			size_t len = script(bytes);

			good++;
			channel_receive(c, bytes, len);
			channel_consume(c, channel_pending(c, &(const void *){ NULL }));
		} else {
			bad++;
		}
		channel_free(c);
		free(copy);
	}
	assert_true(good > 100);
	assert_true(bad > 100);
	blob_fini(&saved);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(test_cut_at_every_byte),
		TEST(test_noise),
		TEST(test_restored),
		TEST(test_load_truncated),
		TEST(test_load_noise),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
