/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/facts.c: what a file may say, every bit of it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "arch/base/digest.h"
#include "arch/base/error.h"
#include "boot/snapshot/facts.h"

#define BOUND 0xfedcba9876543210ull

static const struct template_facts facts = {
	.known = true,
	.built_s = 1795428800,
	.build_us = 2500000,
	.ready_us = 1500,
	.warm_requests = 7,
	.tried_requests = 2,
};

static int parse(const char *text, size_t len, uint64_t bound, struct template_facts *found)
{
	int ret = template_facts_parse(found, "FILE", text, len, bound);

	if (ret < 0)
		assert_non_null(strstr(error_text(), "FILE: "));
	return ret;
}

static bool same(const struct template_facts *a, const struct template_facts *b)
{
	return a->known == b->known && a->built_s == b->built_s && a->build_us == b->build_us &&
	       a->ready_us == b->ready_us && a->warm_requests == b->warm_requests &&
	       a->tried_requests == b->tried_requests;
}

static void test_round_trip(void **state)
{
	char *text = template_facts_print(&facts, BOUND);
	struct template_facts found;

	(void)state;
	assert_true(strlen(text) < TEMPLATE_FACTS_SIZE_MAX);
	assert_int_equal(parse(text, strlen(text), BOUND, &found), 0);
	assert_true(same(&facts, &found));
	free(text);
}

/* Blanks may change, nothing else. */
static void test_every_bit(void **state)
{
	char *text = template_facts_print(&facts, BOUND);
	struct template_facts found;
	unsigned refused = 0;

	(void)state;
	for (size_t i = 0; i < 8 * strlen(text); i++) {
		text[i / 8] ^= (char)(1 << i % 8);
		if (parse(text, strlen(text), BOUND, &found) < 0)
			refused++;
		else
			assert_true(same(&facts, &found));
		text[i / 8] ^= (char)(1 << i % 8);
	}
	assert_true(refused > 7 * strlen(text));
	free(text);
}

static void test_every_length(void **state)
{
	char *text = template_facts_print(&facts, BOUND);
	struct template_facts found;

	(void)state;
	/* Only the final newline can be missing. */
	for (size_t len = 0; len + 1 < strlen(text); len++)
		assert_int_equal(parse(text, len, BOUND, &found), -EINVAL);
	free(text);
}

static void test_belongs(void **state)
{
	char *text = template_facts_print(&facts, BOUND);
	struct template_facts found;

	(void)state;
	assert_int_equal(parse(text, strlen(text), BOUND + 1, &found), -EINVAL);
	assert_non_null(strstr(error_text(), "belongs to another snapshot"));
	assert_false(found.known);
	free(text);
}

/* A member changed, added or removed, and the checksum made right again. */
static void expect_edited(const char *key, json_t *value, const char *sentence)
{
	char *text = template_facts_print(&facts, BOUND), sum[17];
	json_t *object = json_loads(text, 0, NULL);
	struct template_facts found;

	free(text);
	if (value)
		json_object_set_new(object, key, value);
	else
		json_object_del(object, key);
	json_object_del(object, "checksum");
	text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)digest64(text, strlen(text)));
	free(text);
	json_object_set_new(object, "checksum", json_string(sum));
	text = json_dumps(object, 0);
	assert_int_equal(parse(text, strlen(text), BOUND, &found), -EINVAL);
	if (!strstr(error_text(), sentence))
		fail_msg("'%s' does not say '%s'", error_text(), sentence);
	free(text);
	json_decref(object);
}

static void test_members(void **state)
{
	(void)state;
	expect_edited("version", json_integer(2), "has version 2; this virga reads version 1");
	expect_edited("version", json_string("1"), "has version 0");
	expect_edited("state", json_string("0"), "belongs to another snapshot");
	expect_edited("state", NULL, "members make no sense");
	expect_edited("ready_us", json_integer(-1), "members make no sense");
	expect_edited("ready_us", json_real(1.5), "members make no sense");
	expect_edited("ready_us", NULL, "members make no sense");
	expect_edited("more", json_integer(1), "members make no sense");
}

static void test_no_json(void **state)
{
	static const char *const texts[] = {
		"", "[]", "7", "{}", "{\"checksum\": 1}", "{\"checksum\": \"x\"}"
	};
	struct template_facts found;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(parse(texts[i], strlen(texts[i]), BOUND, &found), -EINVAL);
		assert_non_null(strstr(error_text(), "is damaged"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_length), cmocka_unit_test(test_belongs),
		cmocka_unit_test(test_members),      cmocka_unit_test(test_no_json),
	};

	return cmocka_run_group_tests_name("template_facts", tests, NULL, NULL);
}
