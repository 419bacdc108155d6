/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool/pool.c and serve/pool/function.c when what shells were told is not true any more: other settings,
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

#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_one.h"

static void configure(enum policy policy, const char *environment)
{
	struct function_config config;

	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.policy = policy;
	if (environment) {
		config.environment = strdup(environment);
		config.environment_len = strlen(environment) + 1;
	}
	function_configure(&pool_one->pool, f, &config);
	pool_bed_step(pool_one);
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
		waits = fake_of(pool_one, &r[0])->id;
		begin(1);
		runs = fake_of(pool_one, &r[1])->id;
		answer(0); /* this one waits, by reset and keep, the other still runs */
		configure(to, NULL);
		answer(1);
		settle();
		for (unsigned n = 2; n < 6; n++) {
			begin(n);
			assert_int_not_equal(fake_of(pool_one, &r[n])->id, waits);
			assert_int_not_equal(fake_of(pool_one, &r[n])->id, runs);
			assert_int_equal(fake_of(pool_one, &r[n])->head.policy, to);
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
	kept = fake_of(pool_one, &r[0])->id;
	answer(0);
	begin(1);
	assert_int_equal(fake_of(pool_one, &r[1])->id, kept);
	answer(1);
	/* The same again changes nothing. */
	configure(POLICY_KEEP, "A=1");
	begin(2);
	assert_int_equal(fake_of(pool_one, &r[2])->id, kept);
	answer(2);
	configure(POLICY_KEEP, "A=2");
	begin(3);
	assert_int_not_equal(fake_of(pool_one, &r[3])->id, kept);
	answer(3);
}

/* Shapes are one when all of them is, however alike sums of it may be. */
static void test_shapes(void **state)
{
	struct function_version *first, *same, *other;

	(void)state;
	pool_bed_instances[0] = 1;
	first = pool_bed_version(pool_one, "first");
	same = pool_bed_version(pool_one, "same");
	pool_bed_instances[0] = 0;
	pool_bed_instances[1] = 31;
	other = pool_bed_version(pool_one, "other");
	pool_bed_instances[1] = 0;
	assert_ptr_equal(first->shape, same->shape);
	assert_ptr_not_equal(first->shape, other->shape);
	assert_ptr_not_equal(first->shape, f->version->shape);
	function_version_put(&pool_one->pool, same);
	function_version_put(&pool_one->pool, other);
	function_version_put(&pool_one->pool, first);
}

/* A machine that is used again serves whom it has served; one that is new whoever comes. */
static void test_tenants(void **state)
{
	static const char *const tenants[] = { NULL, "a", "b", "ab" };
	uint64_t ids[4] = { 0 };

	(void)state;
	for (unsigned policy = POLICY_RESET; policy <= POLICY_KEEP; policy++) {
		memset(r, 0, sizeof(r));
		configure((enum policy)policy, NULL);
		settle();
		for (unsigned i = 0; i < 40; i++) {
			unsigned who = i * 7 / 3 % 4;

			r[i].tenant = tenants[who];
			begin(i);
			settle(); /* where one is made for it */
			for (unsigned k = 0; k < 4 && !ids[who]; k++)
				assert_int_not_equal(fake_of(pool_one, &r[i])->id, ids[k]);
			if (ids[who] && policy == POLICY_KEEP)
				assert_int_equal(fake_of(pool_one, &r[i])->id, ids[who]);
			ids[who] = fake_of(pool_one, &r[i])->id;
			for (unsigned k = 0; k < 4; k++)
				assert_true(k == who || ids[k] != ids[who]);
			answer(i);
			settle();
		}
		memset(ids, 0, sizeof(ids));
	}
}

/* All shells are kept for others: one of them makes room. */
static void test_tenants_make_room(void **state)
{
	char names[SHELLS + 5][8];

	(void)state;
	configure(POLICY_KEEP, NULL);
	f->config.idle_timeout_ms = 1000000;
	for (unsigned i = 0; i < SHELLS + 5; i++) {
		snprintf(names[i], sizeof(names[i]), "t%u", i);
		r[i].tenant = names[i];
		begin(i);
		settle();
		answer(i);
		settle();
	}
	assert_true(f->kept_count > SHELLS / 2);
}

static void test_target(void **state)
{
	struct function_config config;

	(void)state;
	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.pool_min = config.pool_max = 5;
	function_configure(&pool_one->pool, f, &config);
	settle();
	assert_int_equal(f->armed_count, 5);
	assert_int_equal(function_config_init(&config, "f", "f"), 0);
	config.pool_min = 0;
	config.pool_max = 1;
	function_configure(&pool_one->pool, f, &config);
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
	function_set_version(&pool_one->pool, f, pool_bed_version(pool_one, "f"));
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
	pool_one->stubborn = true;
	begin(0);
	answer(0);
	pool_bed_advance(pool_one, POOL_GO_MS * MS / 2);
	assert_int_equal(pool_one->killed, 0);
	pool_bed_advance(pool_one, POOL_GO_MS * MS);
	assert_int_equal(pool_one->killed, 1);
	pool_one->stubborn = false;
}

/* The spawner hears of it later that a template is not wanted. */
static void test_forget_again(void **state)
{
	struct message m;

	(void)state;
	settle();
	pool_one->deaf = true;
	message_init(&m, MESSAGE_KILL);
	m.id = ~0ull;
	while (message_try(pool_one->pool.spawner.child.fd, &m) == 0)
		;
	function_set_version(&pool_one->pool, f, NULL);
	pool_bed_advance(pool_one, 50 * MS);
	assert_int_equal(pool_one->template_count, 1);
	assert_non_null(pool_one->pool.versions);
	pool_one->deaf = false;
	pool_bed_advance(pool_one, 50 * MS);
	assert_int_equal(pool_one->template_count, 0);
	assert_null(pool_one->pool.versions);
}

/* All shells are there, bare ones of another shape among them: one of those makes room. */
static void test_room_of_another_shape(void **state)
{
	struct function *other;

	(void)state;
	pool_bed_memory = 64ull << 20;
	other = pool_bed_function(pool_one, "other", true);
	pool_bed_memory = 128ull << 20;
	f->config.pool_min = f->config.pool_max = f->target = 0;
	other->config.pool_min = other->config.pool_max = other->target = 0;
	pool_one->pool.limits.bare = SHELLS / 2;
	pool_bed_advance(pool_one, 1000 * MS);
	assert_int_equal(pool_one->pool.alive, SHELLS);
	for (unsigned i = 0; i < SHELLS; i++)
		begin(i);
	pool_bed_advance(pool_one, 50 * MS);
	assert_int_equal(f->active, SHELLS);
	for (unsigned i = 0; i < SHELLS; i++)
		answer(i);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_one_open, pool_one_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_policies),
		TEST(test_environment),
		TEST(test_shapes),
		TEST(test_tenants),
		TEST(test_tenants_make_room),
		TEST(test_target),
		TEST(test_version_told),
		TEST(test_stubborn),
		TEST(test_forget_again),
		TEST(test_room_of_another_shape),
	};

	return cmocka_run_group_tests_name("pool_settings", tests, NULL, NULL);
}
