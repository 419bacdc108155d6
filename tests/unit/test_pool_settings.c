/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool.c and serve/function.c when what shells were told is not true any more: other settings,
 * another version; and shells and templates that are not wanted and do not go by themselves.
 *
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open notef
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/own_time.h"
#include "tests/unit/pool_bed.h"

#define SHELLS 8u

static struct pool_bed *bed;
static struct function *f;
static struct request r[20];

/* What goes wrong is said on stderr: not here. */
void __wrap_notef(const char *fmt, ...);
void __wrap_notef(const char *fmt, ...)
{
	(void)fmt;
}

static int setup(void **state)
{
	(void)state;
	bed = pool_bed_open(SHELLS, 1);
	f = pool_bed_function(bed, "f", true);
	memset(r, 0, sizeof(r));
	for (unsigned i = 0; i < 20; i++)
		r[i].number = i;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pool_bed_close(bed);
	return 0;
}

static void settle(void)
{
	pool_bed_advance(bed, 100 * MS);
}

static void begin(unsigned i)
{
	assert_true(request_begin(bed, &r[i], f, 60000 * MS));
	pool_bed_step(bed);
}

static void answer(unsigned i)
{
	fake_answer(fake_of(bed, &r[i]), OUTCOME_RESPONSE, r[i].payload);
	pool_bed_step(bed);
	request_expect(&r[i], OUTCOME_RESPONSE, r[i].payload);
}

static void configure(enum policy policy, const char *environment)
{
	struct function_config config;

	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.policy = policy;
	if (environment) {
		config.environment = strdup(environment);
		config.environment_len = strlen(environment) + 1;
	}
	function_configure(&bed->pool, f, &config);
	pool_bed_step(bed);
}

/* --- Other settings --- */

/* From each policy to each other: no machine that has run by the old one serves by the new one. */
static void test_policies(void **state)
{
	static const enum policy policies[] = { POLICY_ONCE, POLICY_RESET, POLICY_KEEP };

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		const enum policy from = policies[i / 3], to = policies[i % 3];
		uint64_t waits, runs;

		if (from == to)
			continue;
		memset(r, 0, sizeof(r));
		configure(from, NULL);
		settle();
		begin(0);
		waits = fake_of(bed, &r[0])->id;
		begin(1);
		runs = fake_of(bed, &r[1])->id;
		answer(0); /* this one waits, by reset and keep, the other still runs */
		configure(to, NULL);
		answer(1);
		settle();
		for (unsigned n = 2; n < 6; n++) {
			begin(n);
			assert_int_not_equal(fake_of(bed, &r[n])->id, waits);
			assert_int_not_equal(fake_of(bed, &r[n])->id, runs);
			assert_int_equal(fake_of(bed, &r[n])->head.policy, to);
		}
		for (unsigned n = 2; n < 6; n++)
			answer(n);
		settle();
	}
}

static void test_environment(void **state)
{
	uint64_t kept;

	(void)state;
	configure(POLICY_KEEP, "A=1");
	settle();
	begin(0);
	kept = fake_of(bed, &r[0])->id;
	answer(0);
	begin(1);
	assert_int_equal(fake_of(bed, &r[1])->id, kept);
	answer(1);
	/* The same again changes nothing. */
	configure(POLICY_KEEP, "A=1");
	begin(2);
	assert_int_equal(fake_of(bed, &r[2])->id, kept);
	answer(2);
	configure(POLICY_KEEP, "A=2");
	begin(3);
	assert_int_not_equal(fake_of(bed, &r[3])->id, kept);
	answer(3);
}

static void test_target(void **state)
{
	struct function_config config;

	(void)state;
	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.pool_min = config.pool_max = 5;
	function_configure(&bed->pool, f, &config);
	settle();
	assert_int_equal(f->armed_count, 5);
	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.pool_min = 0;
	config.pool_max = 1;
	function_configure(&bed->pool, f, &config);
	settle();
	assert_int_equal(f->armed_count, 1);
}

/* A request that waited over a change of the template says on which it ran. */
static void test_version_told(void **state)
{
	(void)state;
	f->config.concurrency = 1;
	settle();
	begin(0);
	begin(1);
	snprintf(f->version->tag, sizeof(f->version->tag), "old");
	function_set_version(&bed->pool, f, pool_bed_version(bed, "f"));
	snprintf(f->version->tag, sizeof(f->version->tag), "new");
	answer(0);
	settle();
	assert_string_equal(r[1].inv.version, "new");
	answer(1);
}

/* --- What does not go by itself --- */

static void test_stubborn(void **state)
{
	(void)state;
	settle();
	bed->stubborn = true;
	begin(0);
	answer(0);
	pool_bed_advance(bed, POOL_GO_MS * MS / 2);
	assert_int_equal(bed->killed, 0);
	pool_bed_advance(bed, POOL_GO_MS * MS);
	assert_int_equal(bed->killed, 1);
	bed->stubborn = false;
}

/* The spawner hears of it later that a template is not wanted. */
static void test_forget_again(void **state)
{
	struct message m;

	(void)state;
	settle();
	bed->deaf = true;
	message_init(&m, MESSAGE_KILL);
	m.id = ~0ull;
	while (message_try(bed->pool.spawner.fd, &m) == 0)
		;
	function_set_version(&bed->pool, f, NULL);
	pool_bed_advance(bed, 50 * MS);
	assert_int_equal(bed->template_count, 1);
	assert_non_null(bed->pool.versions);
	bed->deaf = false;
	pool_bed_advance(bed, 50 * MS);
	assert_int_equal(bed->template_count, 0);
	assert_null(bed->pool.versions);
}

/* All shells are there, bare ones of another shape among them: one of those makes room. */
static void test_room_of_another_shape(void **state)
{
	struct function *other;

	(void)state;
	pool_bed_memory = 64ull << 20;
	other = pool_bed_function(bed, "other", true);
	pool_bed_memory = 128ull << 20;
	f->config.pool_min = f->config.pool_max = f->target = 0;
	other->config.pool_min = other->config.pool_max = other->target = 0;
	bed->pool.limits.bare = SHELLS / 2;
	pool_bed_advance(bed, 1000 * MS);
	assert_int_equal(bed->pool.alive, SHELLS);
	for (unsigned i = 0; i < SHELLS; i++)
		begin(i);
	pool_bed_advance(bed, 50 * MS);
	assert_int_equal(f->active, SHELLS);
	for (unsigned i = 0; i < SHELLS; i++)
		answer(i);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_policies),
		TEST(test_environment),
		TEST(test_target),
		TEST(test_version_told),
		TEST(test_stubborn),
		TEST(test_forget_again),
		TEST(test_room_of_another_shape),
	};

	return cmocka_run_group_tests_name("pool_settings", tests, NULL, NULL);
}
