/* SPDX-License-Identifier: Apache-2.0 */
/* arch/base/bucket.c: never more than the rate in any second and a full bucket, and never stuck. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/base/bucket.h"

/* Takes as many as it may until end_us. */
static unsigned take_all(struct bucket *b, uint32_t rate, uint64_t now_us, uint64_t end_us)
{
	unsigned taken = 0;

	while ((now_us = bucket_next_us(b, rate, now_us)) < end_us) {
		bucket_take(b, rate, now_us);
		taken++;
	}
	return taken;
}

static void test_rates(void **state)
{
	static const uint32_t rates[] = { 1, 2, 3, 7, 100, 1000, 100000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct bucket b = { 0 };
		uint64_t start_us = 1000000000;

		assert_int_equal(take_all(&b, rates[i], start_us, start_us + 1), rates[i]);
		assert_in_range(take_all(&b, rates[i], start_us, start_us + 10000001),
				rates[i] * 10ull - 1, rates[i] * 10ull);
		/* Full again, and no more than that. */
		start_us += 1000000000;
		assert_int_equal(take_all(&b, rates[i], start_us, start_us + 1), rates[i]);
	}
}

/* What was taken without asking is paid back. */
static void test_debt(void **state)
{
	struct bucket b = { 0 };
	uint64_t now_us = 5000000;

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		bucket_take(&b, 10, now_us);
	assert_in_range(bucket_next_us(&b, 10, now_us) - now_us, 2000000, 2200000);
	/* Another rate from now on. */
	assert_in_range(bucket_next_us(&b, 1000, now_us) - now_us, 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_debt),
	};

	return cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
}
