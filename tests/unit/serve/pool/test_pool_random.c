/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool under everything at once, at random: requests, hang-ups, time, answers of all kinds, shells
 * that die, lie or are not made, spawners that go, templates that change. Each request that was
 * accepted is answered once, or not at all when its caller hung up; no shell runs requests of two
 * functions; in the end nothing is held.
 *
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open notef
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/arch/own_time.h"
#include "tests/unit/seed.h"
#include "tests/unit/serve/pool/pool_bed.h"

#define ROUNDS    60u
#define STEPS     4000u
#define FUNCTIONS 4u
#define REQUESTS  4000u

static struct pool_bed *bed;
static struct seed seed;
static struct function *functions[FUNCTIONS];
static struct request requests[REQUESTS];
static unsigned count; /* requests so far in this round */
static unsigned refused, cancelled, answered, throttled, timed_out, lost;
static bool faults;

void __wrap_notef(const char *fmt, ...);
void __wrap_notef(const char *fmt, ...)
{
	(void)fmt;
}

static bool one_in(unsigned n)
{
	return seed_below(&seed, n) == 0;
}

/* --- Things that happen --- */

static struct request *any_open_request(void)
{
	for (unsigned tries = 0; count && tries < 20; tries++) {
		struct request *r = &requests[seed_below(&seed, count)];

		if (r->accepted && !r->done && !r->cancelled)
			return r;
	}
	return NULL;
}

static void make_function(unsigned i)
{
	char name[16];
	struct function *f;

	snprintf(name, sizeof(name), "f%u", i);
	pool_bed_memory = (64ull + 64 * (i & 1)) << 20;
	f = functions[i] = pool_bed_function(bed, name, !one_in(20));
	f->config.policy = (enum policy)(i % 3);
	f->config.json = one_in(2);
	f->config.concurrency = 1 + (uint32_t)seed_below(&seed, 6);
	f->config.queue = (uint32_t)seed_below(&seed, 8);
	f->config.pool_min = (uint32_t)seed_below(&seed, 4);
	f->config.pool_max = f->config.pool_min + (uint32_t)seed_below(&seed, 4);
	f->config.idle_timeout_ms = 1 + (uint32_t)seed_below(&seed, 500);
	f->target = f->config.pool_min;
}

static void begin(void)
{
	static const char *const tenants[] = { NULL, NULL, "a", "ab", "b" };

	struct request *r = &requests[count];

	if (count == REQUESTS)
		return;
	r->number = count++;
	r->tenant = tenants[seed_below(&seed, sizeof(tenants) / sizeof(tenants[0]))];
	request_begin(bed, r, functions[seed_below(&seed, FUNCTIONS)],
		      (1 + seed_below(&seed, one_in(4) ? 3000 : 50)) * MS);
}

static void hang_up(void)
{
	struct request *r = any_open_request();

	if (r)
		request_cancel(r);
}

static struct fake_shell *any(int state)
{
	unsigned n = fake_count(bed, state);

	return n ? fake_find(bed, state, (unsigned)seed_below(&seed, n)) : NULL;
}

static void make_ready(int state)
{
	struct fake_shell *s = any(state);

	if (s)
		fake_ready(s, faults && one_in(40) ? "it cannot" : NULL);
}

static void answer(void)
{
	static const enum invocation_outcome outcomes[] = {
		OUTCOME_RESPONSE, OUTCOME_RESPONSE, OUTCOME_RESPONSE,    OUTCOME_ERROR,
		OUTCOME_NOT_JSON, OUTCOME_BROKEN,   OUTCOME_TOO_LARGE,   OUTCOME_ENDED,
		OUTCOME_CRASHED,  OUTCOME_HOST,     OUTCOME_ANSWER_JSON,
	};
	struct fake_shell *s = any(FAKE_RUNS);

	if (s)
		fake_answer(s, outcomes[seed_below(&seed, 11)], s->text);
}

static void die(void)
{
	struct fake_shell *s = any(FAKE_MADE + (int)seed_below(&seed, 5));
	static const int signals[] = { 0, SIGKILL, SIGSEGV, SIGSYS };

	if (s)
		fake_dies(bed, s, signals[seed_below(&seed, 4)]);
}

static void lie(void)
{
	struct fake_shell *s = any(FAKE_MADE + (int)seed_below(&seed, 5));
	char bytes[200];

	seed_bytes(&seed, bytes, sizeof(bytes));
	if (one_in(2)) /* a type that means something */
		memcpy(bytes, &(uint32_t){ one_in(2) ? MESSAGE_ANSWER : MESSAGE_SHELL }, 4);
	if (s)
		(void)!write(s->fd, bytes, seed_below(&seed, sizeof(bytes)));
}

static void change_template(void)
{
	unsigned i = (unsigned)seed_below(&seed, FUNCTIONS);
	struct function_version *v = NULL;

	if (one_in(4)) {
		function_remove(&bed->pool, functions[i]);
		make_function(i);
		return;
	}
	pool_bed_memory = (64ull + 64 * seed_below(&seed, 3)) << 20;
	pool_bed_written_pages = one_in(3) ? 0 : 10;
	if (!one_in(8))
		v = pool_bed_version(bed, functions[i]->config.name);
	function_set_version(&bed->pool, functions[i], v);
}

static void spawner_goes(void)
{
	bed->no_forks = one_in(12) ? (unsigned)seed_below(&seed, 3) : 0;
	fake_spawner_dies(bed);
}

static void pass_time(void)
{
	own_time_us += one_in(50) ? seed_below(&seed, 3000 * MS) : seed_below(&seed, 8 * MS);
	timers_run(&bed->timers, own_time_us);
}

/* --- What must hold --- */

static const struct request *request_of(uint64_t id)
{
	for (unsigned i = count; i-- > 0;)
		if (requests[i].accepted && requests[i].inv.id == id)
			return &requests[i];
	fail_msg("a shell runs invocation %lu, which there is not", (unsigned long)id);
	return NULL;
}

static void check_owners(void)
{
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++) {
		struct fake_shell *s = &bed->shells[i];
		const struct request *r;

		if (s->state != FAKE_RUNS)
			continue;
		r = request_of(s->invocation);
		assert_string_equal(s->text, r->payload);
		/* Also after a request that was no JSON: it goes back to whom it was. */
		if (!s->owner || s->head.flags & INVOKE_TEMPLATE)
			s->owner = r;
		assert_ptr_equal(s->owner->inv.function, r->inv.function);
		assert_ptr_equal(s->owner->tenant, r->tenant);
	}
}

static void one_step(void)
{
	uint64_t what = seed_below(&seed, faults ? 170 : 160);

	if (what < 40)
		begin();
	else if (what < 50)
		hang_up();
	else if (what < 75)
		make_ready(FAKE_MADE);
	else if (what < 115)
		answer();
	else if (what < 130)
		make_ready(FAKE_TURNS);
	else if (what < 160)
		pass_time();
	else if (what < 164)
		die();
	else if (what < 166)
		lie();
	else if (what < 169)
		change_template();
	else
		spawner_goes();
	if (!one_in(4))
		loop_step(&bed->loop, &bed->lock, 0);
	if (!one_in(4))
		fake_turn(bed);
	check_owners();
	pool_bed_check(bed);
}

static void check_requests(void)
{
	for (unsigned i = 0; i < count; i++) {
		const struct request *r = &requests[i];

		assert_int_equal(r->done, r->accepted && !r->cancelled);
		refused += !r->accepted;
		cancelled += r->cancelled;
		throttled += r->done && r->throttled;
		timed_out += r->done && r->timed_out;
		answered += r->done && r->outcome == OUTCOME_RESPONSE;
		lost += r->done && r->outcome == OUTCOME_HOST && !r->throttled && !r->timed_out;
		if (r->done && r->outcome == OUTCOME_RESPONSE)
			assert_string_equal(r->data, r->payload);
	}
}

static void round_of_faults(void)
{
	bed = pool_bed_open(4 + (unsigned)seed_below(&seed, 16), (unsigned)seed_below(&seed, 3));
	bed->manual = true;
	count = 0;
	memset(requests, 0, sizeof(requests));
	for (unsigned i = 0; i < FUNCTIONS; i++)
		make_function(i);
	for (unsigned step = 0; step < STEPS; step++)
		one_step();
	/* All is well from here on, and what was asked for comes to an end. */
	if (one_in(2)) {
		faults = false;
		bed->no_forks = 0;
		for (unsigned step = 0; step < STEPS / 4; step++)
			one_step();
		bed->manual = false;
		pool_bed_advance(bed, 10000 * MS);
		assert_int_equal(bed->pool.active + bed->pool.waiting, 0);
		check_requests();
		faults = true;
	}
	pool_bed_close(bed);
}

static void test_everything(void **state)
{
	(void)state;
	faults = true;
	for (unsigned round = 0; round < ROUNDS; round++) {
		round_of_faults();
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(requests[i].done,
					 requests[i].accepted && !requests[i].cancelled);
	}
	/* All of it happened often. */
	assert_true(refused > 200);
	assert_true(cancelled > 200);
	assert_true(answered > 1000);
	assert_true(throttled > 200);
	assert_true(timed_out > 200);
	assert_true(lost > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
	};

	signal(SIGPIPE, SIG_IGN);
	seed = seed_begin(4020);
	return cmocka_run_group_tests_name("pool_random", tests, NULL, NULL);
}
