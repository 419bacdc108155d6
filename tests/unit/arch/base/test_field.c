/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch/base/blob.c and arch/base/field.c: byte order, bounds, latching; and arch/base/error.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "arch/base/field.h"

struct sample {
	uint8_t byte;
	uint64_t wide;
	uint16_t pair[3];
	uint32_t word;
	void *not_saved;
};

static const struct field sample_fields[] = {
	FIELD(struct sample, byte),
	FIELD(struct sample, wide),
	FIELD_ARRAY(struct sample, pair),
	FIELD(struct sample, word),
	FIELD_END,
};

static const struct sample sample = {
	.byte = 0x11,
	.wide = 0x8877665544332211u,
	.pair = { 0x0201, 0x0403, 0x0605 },
	.word = 0xddccbbaau,
};

/* In list order, little-endian, unpadded. */
static const uint8_t sample_bytes[] = { 0x11, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 1,
					2,    3,    4,    5,    6,    0xaa, 0xbb, 0xcc, 0xdd };

static void test_blob_grows(void **state)
{
	struct blob b = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 10000; i++)
		blob_put_u32(&b, i);
	blob_put(&b, NULL, 0);
	assert_false(b.failed);
	assert_int_equal(b.len, 40000);

	struct blob in = blob_reader(b.data, b.len);

	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(blob_get_u32(&in), i);
	assert_false(in.failed);
	assert_int_equal(in.pos, in.len);
	blob_fini(&b);
	assert_null(b.data);
}

static void test_blob_write_failure_latches(void **state)
{
	struct blob b = { 0 };

	(void)state;
	blob_put_u32(&b, 1);
	blob_put(&b, &b, SIZE_MAX - 8);
	assert_true(b.failed);
	blob_put_u32(&b, 2);
	assert_int_equal(b.len, 4);
	blob_fini(&b);
}

static void test_blob_read_failure_latches(void **state)
{
	const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6 };
	struct blob in = blob_reader(bytes, sizeof(bytes));
	uint64_t value = 7;

	(void)state;
	assert_int_equal(blob_get_u32(&in), 0x04030201);
	blob_get(&in, &value, sizeof(value));
	assert_int_equal(value, 0);
	assert_true(in.failed);
	/* Two bytes are left, but the first failure stands. */
	assert_null(blob_take(&in, 1));
	assert_int_equal(blob_get_u64(&in), 0);
}

static void test_blob_take(void **state)
{
	const uint8_t bytes[] = { 1, 2, 3 };
	struct blob in = blob_reader(bytes, sizeof(bytes)), empty = blob_reader(NULL, 0);

	(void)state;
	assert_ptr_equal(blob_take(&in, 2), bytes);
	assert_ptr_equal(blob_take(&in, 1), bytes + 2);
	assert_non_null(blob_take(&in, 0));
	assert_null(blob_take(&in, SIZE_MAX));
	assert_non_null(blob_take(&empty, 0));
	assert_false(empty.failed);
	assert_null(blob_take(&empty, 1));
}

static void test_fields_bytes(void **state)
{
	struct blob out = { 0 };

	(void)state;
	fields_save(sample_fields, &sample, &out);
	assert_int_equal(out.len, sizeof(sample_bytes));
	assert_int_equal(fields_size(sample_fields, 1), sizeof(sample_bytes));
	assert_memory_equal(out.data, sample_bytes, sizeof(sample_bytes));
	blob_fini(&out);
}

static void test_fields_load(void **state)
{
	struct sample got = { .not_saved = &got };
	struct blob in = blob_reader(sample_bytes, sizeof(sample_bytes));

	(void)state;
	fields_load(sample_fields, 1, &got, &in);
	assert_false(in.failed);
	assert_int_equal(in.pos, in.len);
	assert_int_equal(got.byte, sample.byte);
	assert_true(got.wide == sample.wide);
	assert_memory_equal(got.pair, sample.pair, sizeof(got.pair));
	assert_int_equal(got.word, sample.word);
	assert_ptr_equal(got.not_saved, &got);
}

/* A version that lacks fields: they get their defaults, those around them what was saved. */
static void test_fields_since(void **state)
{
	static const struct field list[] = {
		FIELD(struct sample, byte),
		FIELD_SINCE(struct sample, wide, 3, 77),
		FIELD_SINCE(struct sample, pair[1], 2, 0x12),
		FIELD(struct sample, word),
		FIELD_END,
	};
	static const size_t sizes[] = { 0, 5, 7, 15 };

	(void)state;
	for (uint32_t version = 1; version <= 3; version++) {
		struct sample got;
		struct blob in = blob_reader(sample_bytes, sizes[version]);

		memset(&got, 0xee, sizeof(got));
		assert_int_equal(fields_size(list, version), sizes[version]);
		fields_load(list, version, &got, &in);
		assert_false(in.failed);
		assert_int_equal(in.pos, in.len);
		assert_int_equal(got.byte, 0x11);
		assert_true(version == 3 ? got.wide != 77 : got.wide == 77);
		assert_int_equal(got.pair[1] == 0x12, version == 1);
		assert_int_equal(got.pair[0], 0xeeee);
		assert_memory_equal(&got.word, sample_bytes + sizes[version] - 4, 4);
	}
}

static void test_fields_short(void **state)
{
	(void)state;
	for (size_t len = 0; len < sizeof(sample_bytes); len++) {
		struct sample got;
		struct blob in = blob_reader(sample_bytes, len);

		fields_load(sample_fields, 1, &got, &in);
		assert_true(in.failed);
	}
}

static void test_failf(void **state)
{
	(void)state;
	assert_int_equal(failf(ENOSPC, "%s: %d", "disk", 7), -ENOSPC);
	assert_string_equal(error_text(), "disk: 7");
	assert_int_equal(failf(EIO, "%s, again", error_text()), -EIO);
	assert_string_equal(error_text(), "disk: 7, again");
	failf(EIO, "%02000d", 1);
	assert_true(strlen(error_text()) < 2000);
}

/* What `say` prints on stderr, through a pipe. */
static size_t capture(char *text, size_t size, void (*say)(void))
{
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	say();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	n = read(fds[0], text, size - 1);
	close(fds[0]);
	assert_true(n >= 0);
	text[n] = '\0';
	return (size_t)n;
}

static void say_once(void)
{
	notef("one %s", "line");
}

static void say_long(void)
{
	notef("%03000d", 5);
}

static void say_often(void)
{
	struct note_limit limit = { 0 };

	for (int i = 0; i < 100; i++)
		note_limited(&limit, "guest error %d", i);
}

static void test_notef(void **state)
{
	char text[8192], *at = text;
	unsigned lines = 0;

	(void)state;
	capture(text, sizeof(text), say_once);
	assert_string_equal(text, "virga: one line\n");

	size_t len = capture(text, sizeof(text), say_long);

	assert_true(len < 1024 && text[len - 1] == '\n');

	capture(text, sizeof(text), say_often);
	while ((at = strchr(at, '\n')) != NULL && at++)
		lines++;
	assert_int_equal(lines, NOTE_BURST);
	assert_non_null(strstr(text, "guest error 9 (no more of these are shown)\n"));
}

/* A blocking pipe that nobody reads: notef must return, this test end. */
static void test_notef_full_pipe(void **state)
{
	char page[4096] = { 0 };
	int fds[2], saved = dup(STDERR_FILENO);

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	while (write(fds[1], page, sizeof(page)) > 0)
		;
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	alarm(10);
	dup2(fds[1], STDERR_FILENO);
	notef("nobody reads this");
	dup2(saved, STDERR_FILENO);
	alarm(0);
	close(saved);
	close(fds[0]);
	close(fds[1]);
}

static void say_hostile(void)
{
	notef("the guest says %s", "\033]0;owned\007\nvirga: forged\r\b\177\n");
	notef("%s", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x80");
	/* Control characters of UTF-8 and of 8-bit sets, overlong, surplus and cut sequences. */
	notef("%s", "\xc2\x9b \x9b \xc0\x9b \xe0\x82\x9b \xf4\x90\x80\x80 \xc3");
}

static void test_notef_cleans(void **state)
{
	char text[8192];

	(void)state;
	capture(text, sizeof(text), say_hostile);
	assert_string_equal(
		text, "virga: the guest says \\x1b]0;owned\\x07\\x0avirga: forged\\x0d\\x08\\x7f\n"
		      "virga: caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x80\n"
		      "virga: \\xc2\\x9b \\x9b \\xc0\\x9b \\xe0\\x82\\x9b \\xf4\\x90\\x80\\x80 "
		      "\\xc3\n");
}

static void say_text(void)
{
	static const char hostile[] = "one\033[2J\nvirga: forged\n\n\0four\n\n";
	struct note_rate rate = { 0 };
	char wide[600];

	note_text(&rate, 5, "guest", hostile, sizeof(hostile) - 1);
	memset(wide, 'x', sizeof(wide));
	note_text(&rate, 5, "guest", wide, sizeof(wide));
	note_text(&rate, 5, "guest", "\n", 1);
	note_rate_end(&rate, "guest");
}

static void test_note_text(void **state)
{
	static const char lines[] = "virga: guest: one\\x1b[2J\n"
				    "virga: guest: virga: forged\n"
				    "virga: guest: \n"
				    "virga: guest: \\x00four\n"
				    "virga: guest: xxx";
	char text[8192], *more;
	unsigned wide = 0;

	(void)state;
	capture(text, sizeof(text), say_text);
	assert_memory_equal(text, lines, sizeof(lines) - 1);
	/* A long line goes on in the next, behind the same words. */
	more = text + sizeof(lines) - 1 - 3;
	assert_non_null(strstr(more, "x\nvirga: guest: x"));
	for (; *more; more++)
		wide += *more == 'x';
	assert_int_equal(wide, 600);
}

static void say_escapes(void)
{
	static const char *const who[] = { "g", "gu", "gue", "gues" };
	char bytes[200];

	memset(bytes, 1, sizeof(bytes));
	for (unsigned i = 0; i < 4; i++) {
		struct note_rate rate = { 0 };

		note_text(&rate, 5, who[i], bytes, sizeof(bytes));
	}
}

/* What one byte becomes is never cut, and never goes beyond the longest line. */
static void test_note_text_escapes(void **state)
{
	char text[8192], *line = text, *end;
	unsigned count = 0;

	(void)state;
	capture(text, sizeof(text), say_escapes);
	while ((end = strchr(line, '\n'))) {
		assert_true(end - line < 512);
		*end = '\0';
		for (line = strchr(line + strlen("virga: "), ':') + 2; *line; line += 4) {
			assert_memory_equal(line, "\\x01", 4);
			count++;
		}
		line = end + 1;
	}
	assert_int_equal(count, 4 * 200);
}

static void say_flood(void)
{
	struct note_rate rate = { 0 };

	for (unsigned i = 0; i < 1000; i++)
		note_text(&rate, 1000000, "guest", "a\nb", 3);
	/* Half a second later there is room for half as many; after a rest for as many as at first. */
	for (unsigned i = 0; i < 1000; i++)
		note_text(&rate, 1500000, "guest", "c", 1);
	for (unsigned i = 0; i < 1000; i++)
		note_text(&rate, 9000000, "guest", "d", 1);
	note_rate_end(&rate, "guest");
}

static void test_note_text_flood(void **state)
{
	unsigned count[256] = { 0 }, sentences = 0;
	char text[8192];

	(void)state;
	capture(text, sizeof(text), say_flood);
	for (char *at = text; *at; at = strchr(at, '\n') + 1) {
		if (strncmp(at, "virga: guest: ", 14) == 0 && at[15] == '\n')
			count[(unsigned char)at[14]]++;
		else
			sentences++;
	}
	assert_int_equal(count['a'] + count['b'], NOTE_RATE);
	assert_int_equal(count['c'], NOTE_RATE / 2);
	assert_int_equal(count['d'], NOTE_RATE);
	assert_int_equal(sentences, 2);
	assert_non_null(strstr(text, "virga: guest: more than 100 lines a second"));
	assert_non_null(strstr(text, "virga: guest: 3750 lines were dropped\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blob_grows),
		cmocka_unit_test(test_blob_write_failure_latches),
		cmocka_unit_test(test_blob_read_failure_latches),
		cmocka_unit_test(test_blob_take),
		cmocka_unit_test(test_fields_bytes),
		cmocka_unit_test(test_fields_load),
		cmocka_unit_test(test_fields_since),
		cmocka_unit_test(test_fields_short),
		cmocka_unit_test(test_failf),
		cmocka_unit_test(test_notef),
		cmocka_unit_test(test_notef_cleans),
		cmocka_unit_test(test_note_text),
		cmocka_unit_test(test_note_text_escapes),
		cmocka_unit_test(test_note_text_flood),
		cmocka_unit_test(test_notef_full_pipe),
	};

	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
