/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch/base/histogram.c and arch/base/base64.c: a quantile is never less than the true one and at most a
 * quarter more, whatever the durations; two merged are as one that had all. Base64 as RFC 4648 has it.
 */
#include "arch/base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/base64.h"
#include "tests/unit/seed.h"

#define COUNT   4000u
#define LAST_US 125829120ull /* the longest that is told from longer ones: 10 us * 1.5 * 2^23 */

static struct seed seed;

static void test_limits(void **state)
{
	(void)state;
	assert_int_equal(histogram_limit_us(0), 10);
	assert_int_equal(histogram_limit_us(HISTOGRAM_BUCKETS - 2), LAST_US);
	assert_true(histogram_limit_us(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
	assert_true(histogram_limit_us(~0u) == UINT64_MAX);
	for (unsigned i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
		uint64_t low = histogram_limit_us(i - 1), high = histogram_limit_us(i);

		assert_true(high > low);
		assert_true(4 * high <= 5 * low + 4); /* a quarter, and rounding */
	}
}

/* At, below and above each limit. */
static void test_edges(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		struct histogram h = { 0 };
		uint64_t limit = histogram_limit_us(i);

		histogram_add(&h, limit - 1);
		histogram_add(&h, limit);
		histogram_add(&h, limit + 1);
		assert_int_equal(h.buckets[i], 2);
		assert_int_equal(h.buckets[i + 1], 1);
		assert_int_equal(h.count, 3);
		assert_true(h.sum_us == 3 * limit);
	}
}

static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Durations of one kind: 0 alike, 1 even, 2 over all magnitudes, 3 short and a few very long. */
static uint64_t draw(unsigned kind)
{
	switch (kind) {
	case 0:
		return 300;
	case 1:
		return seed_below(&seed, 10000);
	case 2:
		return seed_next(&seed) >> (38 + seed_below(&seed, 26));
	default:
		return seed_below(&seed, 100) ? 200 + seed_below(&seed, 100)
					      : seed_below(&seed, LAST_US);
	}
}

static void test_quantiles(void **state)
{
	static const unsigned permilles[] = { 1, 10, 250, 500, 900, 990, 999, 1000 };
	static uint64_t all[COUNT];

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct histogram h = { 0 };
		unsigned count = 1 + (unsigned)seed_below(&seed, COUNT);

		for (unsigned i = 0; i < count; i++) {
			all[i] = draw(round % 4);
			histogram_add(&h, all[i]);
		}
		qsort(all, count, sizeof(all[0]), by_size);
		for (unsigned i = 0; i < sizeof(permilles) / sizeof(permilles[0]); i++) {
			uint64_t place = ((uint64_t)count * permilles[i] + 999) / 1000;
			uint64_t truth = all[place - 1], said;

			said = histogram_quantile_us(&h, permilles[i]);
			truth = truth < 10 ? 10 : truth;
			if (said < truth || 4 * said > 5 * truth + 4)
				fail_msg("%u of %u: %lu said, %lu true", permilles[i], count,
					 (unsigned long)said, (unsigned long)truth);
		}
	}
}

static void test_empty_and_over(void **state)
{
	struct histogram h = { 0 };

	(void)state;
	assert_int_equal(histogram_quantile_us(&h, 500), 0);
	assert_int_equal(histogram_quantile_us(&h, 1000), 0);
	histogram_add(&h, 0);
	assert_int_equal(histogram_quantile_us(&h, 1000), 10);
	histogram_add(&h, LAST_US + 1);
	histogram_add(&h, UINT64_MAX / 4);
	assert_int_equal(h.buckets[HISTOGRAM_BUCKETS - 1], 2);
	/* It is longer, which is all that is known. */
	assert_int_equal(histogram_quantile_us(&h, 1000), LAST_US);
	assert_int_equal(histogram_quantile_us(&h, 300), 10);
	h.buckets[0] = h.count = 1ull << 50; /* a thousand requests a second for 35000 years */
	assert_int_equal(histogram_quantile_us(&h, 999), 10);
}

static void test_merge(void **state)
{
	struct histogram all = { 0 }, parts[5] = { { 0 } }, sum = { 0 };

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t us = draw(i % 4);

		histogram_add(&all, us);
		histogram_add(&parts[seed_below(&seed, 5)], us);
	}
	for (unsigned i = 0; i < 5; i++)
		histogram_merge(&sum, &parts[i]);
	assert_memory_equal(&sum, &all, sizeof(all));
}

/* --- Base64 --- */

/* RFC 4648, section 10. */
static void test_base64_vectors(void **state)
{
	static const char *const vectors[][2] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
		{ "\xff\xef\xbe\xfb", "/++++w==" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		char *text = base64_encode(vectors[i][0], strlen(vectors[i][0]));

		assert_string_equal(text, vectors[i][1]);
		free(text);
	}
}

/* Four digits as three bytes; how many of them count. */
static size_t decode_group(const char *text, uint8_t *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;

	for (unsigned i = 0; i < 4; i++) {
		const char *at = text[i] == '=' ? digits : strchr(digits, text[i]);

		assert_non_null(at);
		bits = bits << 6 | (uint32_t)(at - digits);
	}
	for (unsigned i = 0; i < 3; i++)
		out[i] = (uint8_t)(bits >> (16 - 8 * i));
	return text[2] == '=' ? 1 : text[3] == '=' ? 2 : 3;
}

static void test_base64_any(void **state)
{
	uint8_t data[600], back[603];

	(void)state;
	for (size_t len = 0; len <= sizeof(data); len++) {
		size_t at = 0;
		char *text;

		seed_bytes(&seed, data, len);
		text = base64_encode(data, len);
		assert_int_equal(strlen(text), (len + 2) / 3 * 4);
		for (const char *p = text; *p; p += 4)
			at += decode_group(p, back + at);
		assert_int_equal(at, len);
		assert_memory_equal(back, data, len);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),     cmocka_unit_test(test_edges),
		cmocka_unit_test(test_quantiles),  cmocka_unit_test(test_empty_and_over),
		cmocka_unit_test(test_merge),      cmocka_unit_test(test_base64_vectors),
		cmocka_unit_test(test_base64_any),
	};

	seed = seed_begin(4011);
	return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
