/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the function channel as a stream: frames cut anywhere, noise, and
 * what a snapshot keeps.
 *
 * wrap: channel_grow
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "devices/channel/state.h"
#include "tests/unit/devices/channel/channel_fixture.h"

/* --- Cuts and noise --- */

static size_t answer_script(uint8_t *bytes)
{
	size_t len = channel_frame(bytes, CHANNEL_RESPONSE, CHANNEL_FLAG_MORE, 5, "first ", 6);

	len += channel_frame(bytes + len, CHANNEL_LOG, 0, 5, "aside", 5);
	len += channel_frame(bytes + len, CHANNEL_RESPONSE, 0, 5, "second", 6);
	return len;
}

/* The same stream, cut in two at every byte; at the cut the channel is saved and loaded. */
static void test_cut_at_every_byte(void **state)
{
	uint8_t one[512], two[512];
	size_t one_len = channel_script(one), two_len = answer_script(two);

	(void)state;
	for (size_t cut = 0; cut <= two_len; cut++) {
		struct blob saved = { 0 }, again = { 0 };
		struct blob in;

		memset(&channel_seen, 0, sizeof(channel_seen));
		channel_free(channel);
		channel = channel_make();
		channel_opened(channel);
		for (size_t i = 0; i < one_len; i++)
			assert_int_equal(channel_receive(channel, one + i, 1), 0);
		assert_int_equal(channel_request(channel, 5, "go", 2, 0), 0);
		assert_int_equal(channel_receive(channel, two, cut), 0);

		channel_save(channel, &saved);
		channel_free(channel);
		channel = channel_make();
		in = blob_reader(saved.data, saved.len);
		assert_int_equal(channel_load(channel, &in), 0);
		assert_false(in.failed);
		assert_int_equal(in.pos, in.len);
		channel_save(channel, &again);
		assert_int_equal(saved.len, again.len);
		assert_memory_equal(saved.data, again.data, saved.len);

		assert_int_equal(channel_receive(channel, two + cut, two_len - cut), 0);
		assert_int_equal(channel_seen.ready, 1);
		assert_int_equal(channel_seen.answers, 1);
		assert_int_equal(channel_seen.answer_len, 12);
		assert_memory_equal(channel_seen.answer, "first second", 12);
		assert_int_equal(channel_seen.log_len, 16);
		assert_memory_equal(channel_seen.log, "a log line\naside", 16);
		assert_int_equal(channel_skipped(channel), 1);
		assert_int_equal(channel_dropped(channel), 1);
		assert_int_equal(channel_bytes_pending(), 34);
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
		channel_open_ready(0);
		assert_int_equal(channel_request(channel, 5, "go", 2, 0), 0);
		len = channel_script(bytes);
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
	assert_true(channel_seen.answers > 1000);
	assert_int_equal(channel_seen.broken, broken);
}

/* --- Restore --- */

static void test_restored(void **state)
{
	static const uint8_t generation[16] = "0123456789abcde";
	char text[64];

	(void)state;
	channel_open_ready(CHANNEL_FLAG_WANT_RESTORED);
	assert_int_equal(channel_request(channel, 7, "a", 1, 0), 0);
	channel_heard(text, sizeof(text));
	channel_restored(channel, generation);
	assert_int_equal(channel_request(channel, 8, "b", 1, 0), 0);
	assert_int_equal(channel_heard(text, sizeof(text)).type, CHANNEL_RESTORED);
	assert_memory_equal(text, generation, 16);
	assert_true(channel_heard(text, sizeof(text)).id == 8);
	assert_int_equal(channel_say(CHANNEL_RESPONSE, 0, 7, "late"), 0);
	assert_int_equal(channel_dropped(channel), 1);

	/* A guest that did not ask for it hears nothing. */
	channel_open_ready(0);
	channel_restored(channel, generation);
	assert_int_equal(channel_bytes_pending(), 0);
}

static void save_to(struct blob *saved)
{
	uint8_t bytes[64];
	size_t len = channel_frame(bytes, CHANNEL_RESPONSE, 0, 7, "partial", 7);

	channel_open_ready(0);
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
			size_t len = channel_script(bytes);

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

/* --- Many parts --- */

#define PARTS    130000u
#define PART_LEN 48u

static size_t moved;   /* bytes by channel_grow(), which moves mappings as a whole, */
static unsigned grown; /* and its calls */

bool __real_channel_grow(uint8_t **buffer, size_t *size, size_t need, size_t used);
bool __wrap_channel_grow(uint8_t **buffer, size_t *size, size_t need, size_t used);
bool __wrap_channel_grow(uint8_t **buffer, size_t *size, size_t need, size_t used)
{
	moved += *size < CHANNEL_MAPPED ? used : 0;
	grown++;
	return __real_channel_grow(buffer, size, need, used);
}

/* An answer's bytes are moved once, however many parts it comes in. */
static void test_many_parts(void **state)
{
	uint8_t frame[CHANNEL_HEADER_SIZE + PART_LEN], part[PART_LEN];

	(void)state;
	channel_open_ready(0);
	assert_int_equal(channel_request(channel, 5, "x", 1, 0), 0);
	moved = grown = 0;
	for (unsigned i = 0; i < PARTS; i++) {
		size_t len;

		memset(part, (int)(i % 251), sizeof(part));
		len = channel_frame(frame, CHANNEL_RESPONSE, i + 1 < PARTS ? CHANNEL_FLAG_MORE : 0,
				    5, part, sizeof(part));
		assert_int_equal(channel_receive(channel, frame, len), 0);
	}
	assert_int_equal(channel_seen.answers, 1);
	assert_int_equal(channel_seen.answer_len, PARTS * PART_LEN);
	for (size_t i = 0; i < CHANNEL_STREAM_MAX; i++)
		assert_int_equal(channel_seen.answer[i], i / PART_LEN % 251);
	assert_true(moved <= 2 * CHANNEL_MAPPED);
	assert_true(grown <= 24);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, channel_setup, channel_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cut_at_every_byte), TEST(test_noise),      TEST(test_restored),
		TEST(test_load_truncated),    TEST(test_load_noise), TEST(test_many_parts),
	};

	return cmocka_run_group_tests_name("channel_stream", tests, NULL, NULL);
}
