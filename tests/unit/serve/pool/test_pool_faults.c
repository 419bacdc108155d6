/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/pool/pool.c when shells break: they die in every state, cannot be made, say what they must not. Who
 * asked is told once, the others are served, nothing is left.
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
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_one.h"

/* --- Shells that die --- */

static void test_armed_dies(void **state)
{
	(void)state;
	settle();
	for (unsigned i = 0; i < 3; i++) {
		fake_dies(pool_one, fake_find(pool_one, FAKE_WAITS, i % 2), SIGKILL);
		pool_bed_step(pool_one);
		assert_int_equal(pool_one->pool.stats.died, i + 1);
		check_well(i);
	}
}

static struct fake_shell *fake_by(const struct pool_shell *shell)
{
	struct fake_shell *s = pool_one->shells;

	while (s->state == FAKE_NONE || s->id != shell->id)
		s++;
	return s;
}

/* They died and nobody has said so yet: the next one gets the request. */
static void test_dead_before_invoke(void **state)
{
	(void)state;
	settle();
	for (unsigned i = 0; i < 5; i++) {
		struct fake_shell *s = fake_by(f->armed);

		close(s->fd);
		s->fd = -1;
		s->state = FAKE_NONE;
		/* The socket's end has not been seen by the loop. */
		assert_true(request_begin(pool_one, &r[i], f, 3000 * MS));
		fake_tell_dead(pool_one, s->id, SIGKILL);
		pool_bed_step(pool_one);
		answer(i);
		assert_int_equal(pool_one->pool.stats.died, i + 1);
		settle();
	}
	check_well(10);
}

static void test_running_dies(void **state)
{
	static const struct {
		int status;
		const char *words;
	} ends[] = {
		{ 0, "the machine's process ended without an answer" },
		{ SIGKILL, "killed by signal 9 (Killed)" },
		{ SIGSEGV, "killed by signal 11 (Segmentation fault)" },
		{ SIGSYS, "killed by its system call filter (SIGSYS)" },
	};

	(void)state;
	f->config.concurrency = 1;
	for (unsigned i = 0; i < 8; i++) {
		struct request *one = &r[10 * i + 1];
		struct fake_shell *s;

		check_well(10 * i);
		begin(10 * i + 1);
		begin(10 * i + 2);
		s = fake_of(pool_one, one);
		/* The spawner's word and the end of the socket come in either order. */
		if (i & 1)
			fake_tell_dead(pool_one, s->id, ends[i / 2].status);
		fake_dies(pool_one, s, ends[i / 2].status);
		pool_bed_step(pool_one);
		request_expect(one, OUTCOME_HOST, ends[i & 1 ? i / 2 : 0].words);
		/* Who waited has its place at once. */
		answer(10 * i + 2);
	}
	check_well(90);
}

/* What it said before it died is heard, also when the spawner is heard first. */
static void test_answers_and_dies(void **state)
{
	(void)state;
	settle();
	for (unsigned i = 0; i < 10; i++) {
		struct fake_shell *s;

		begin(i);
		s = fake_of(pool_one, &r[i]);
		if (i & 1)
			fake_tell_dead(pool_one, s->id, SIGKILL);
		fake_answer(s, OUTCOME_RESPONSE, "last words");
		fake_dies(pool_one, s, SIGKILL);
		pool_bed_step(pool_one);
		request_expect(&r[i], OUTCOME_RESPONSE, "last words");
		settle();
	}
	check_well(20);
}

static void test_turning_dies(void **state)
{
	(void)state;
	f->config.policy = POLICY_RESET;
	settle();
	pool_one->manual = true;
	begin(0);
	answer(0);
	fake_dies(pool_one, fake_find(pool_one, FAKE_TURNS, 0), SIGSEGV);
	pool_bed_step(pool_one);
	assert_int_equal(f->stats.resets, 0);
	/* Another cannot be reset, and a third does not say. */
	begin(1);
	answer(1);
	fake_ready(fake_find(pool_one, FAKE_TURNS, 0), "memory is neither the one nor the other");
	pool_bed_step(pool_one);
	pool_one->manual = false;
	settle();
	pool_one->manual = true;
	begin(2);
	answer(2);
	pool_bed_advance(pool_one, POOL_RESET_MS * MS - 1);
	assert_int_equal(fake_count(pool_one, FAKE_TURNS), 1);
	pool_bed_advance(pool_one, 1);
	assert_int_equal(fake_count(pool_one, FAKE_TURNS), 0);
	assert_int_equal(pool_one->pool.stats.died, 3);
	check_well(3);
}

/* The spawner tells of one that there is not, or not any more. */
static void test_stranger_dies(void **state)
{
	struct fake_shell *s;

	(void)state;
	settle();
	begin(0);
	s = fake_of(pool_one, &r[0]);
	fake_tell_dead(pool_one, s->id + SHELLS, SIGKILL); /* of the same place */
	fake_tell_dead(pool_one, s->id - SHELLS, SIGKILL);
	fake_tell_dead(pool_one, 0, 0);
	fake_tell_dead(pool_one, ~0ull, 0);
	pool_bed_step(pool_one);
	answer(0);
	check_well(1);
}

/* Those that are held or let go may end whenever they like. */
static void test_held_dies(void **state)
{
	(void)state;
	settle();
	begin(0);
	answer(0);
	assert_int_equal(pool_one->pool.held_count, 1);
	fake_dies(pool_one, fake_find(pool_one, FAKE_OVER, 0), 0);
	pool_bed_step(pool_one);
	assert_int_equal(pool_one->pool.held_count, 0);
	assert_int_equal(pool_one->pool.stats.died, 0);
	check_well(1);
}

/* --- Shells that cannot be made --- */

static void test_build_fails(void **state)
{
	(void)state;
	pool_one->manual = true;
	begin(0);
	begin(1);
	assert_int_equal(fake_count(pool_one, FAKE_MADE), 2);
	/* There is hope as long as another is being made. */
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no memory left");
	pool_bed_step(pool_one);
	pool_bed_advance(pool_one, 10 * MS);
	begin(5);
	assert_int_equal(r[0].done + r[1].done + r[5].done, 0);
	fake_dies(pool_one, fake_find(pool_one, FAKE_MADE, 0), SIGKILL);
	pool_bed_step(pool_one);
	assert_int_equal(r[0].done + r[1].done + r[5].done, 3);
	assert_int_equal(r[0].outcome, OUTCOME_HOST);
	assert_int_equal(f->stats.build_failures, 2);
	/* A request that comes waits for the next try. */
	begin(2);
	pool_bed_advance(pool_one, 99 * MS);
	assert_int_equal(f->building + r[2].done, 0);
	pool_bed_advance(pool_one, 2 * MS);
	for (int i = 0; i < 10 && !r[2].done; i++) {
		fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no memory left");
		pool_bed_step(pool_one);
	}
	request_expect(&r[2], OUTCOME_HOST, "no memory left");
	check_well(3);
}

static void test_build_fails_says_why(void **state)
{
	(void)state;
	pool_one->manual = true;
	begin(0);
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no memory left");
	pool_bed_step(pool_one);
	request_expect(&r[0], OUTCOME_HOST, "no memory left");
}

/* The spawner says that one ended while it was made, before its socket does. */
static void test_build_dies(void **state)
{
	unsigned spawned;

	(void)state;
	pool_one->pool.limits.bare = 0;
	pool_one->manual = true;
	begin(0);
	fake_tell_dead(pool_one, fake_find(pool_one, FAKE_MADE, 0)->id, SIGSEGV);
	fake_dies(pool_one, fake_find(pool_one, FAKE_MADE, 0), SIGSEGV);
	pool_bed_step(pool_one);
	request_expect(&r[0], OUTCOME_HOST, "killed by signal 11 (Segmentation fault)");
	assert_int_equal(f->stats.build_failures, 1);
	/* None is made for later either, for a while, but a bare one to see whether one can be. */
	spawned = pool_one->spawned;
	pool_bed_advance(pool_one, 99 * MS);
	assert_int_equal(pool_one->spawned, spawned + 1);
	assert_false(fake_find(pool_one, FAKE_MADE, 0)->armed);
	pool_bed_advance(pool_one, 10 * MS);
	assert_int_equal(pool_one->spawned, spawned + POOL_REFILLS_MAX);
	check_well(1);
}

static void test_build_takes_too_long(void **state)
{
	(void)state;
	f->config.pool_min = f->config.pool_max = f->target = 0;
	pool_one->pool.limits.bare = 0;
	pool_one->manual = true;
	assert_true(request_begin(pool_one, &r[0], f, 60000 * MS));
	pool_bed_advance(pool_one, POOL_BUILD_MS * MS - 1);
	assert_int_equal(r[0].done, 0);
	pool_bed_advance(pool_one, 1);
	request_expect(&r[0], OUTCOME_HOST, "it takes too long");
	f->config.pool_min = 2;
	f->config.pool_max = 64;
	pool_bed_advance(pool_one, 200 * MS);
	begin(1);
	check_well(2);
}

/* A bare one that fails costs no request, and is not tried again at once. */
static void test_bare_build_fails(void **state)
{
	unsigned spawned;

	(void)state;
	f->config.pool_min = f->config.pool_max = f->target = 0;
	pool_one->manual = true;
	settle();
	assert_int_equal(fake_count(pool_one, FAKE_MADE), 1);
	fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no memory left");
	pool_bed_step(pool_one);
	spawned = pool_one->spawned;
	pool_bed_advance(pool_one, 99 * MS);
	assert_int_equal(pool_one->spawned, spawned);
	pool_bed_advance(pool_one, 10 * MS);
	assert_int_equal(pool_one->spawned, spawned + 1);
}

/* However long that goes on, the log is not filled; it is said again once one could be made. */
static void test_build_failures_are_said(void **state)
{
	(void)state;
	settle();
	pool_one->pool.limits.bare = 2;
	pool_one->manual = true;
	for (unsigned round = 0; round < 2; round++) {
		int kept = notes_begin();
		uint64_t failures = f->stats.build_failures;

		f->target = f->config.pool_min = f->armed_count + 2;
		pool_one->pool.limits.bare += 2;
		begin(10 + round);
		answer(10 + round);
		for (unsigned i = 0; i < 100; i++) {
			pool_bed_advance(pool_one, 110 * MS);
			while (fake_count(pool_one, FAKE_MADE)) {
				fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no /dev/kvm");
				pool_bed_step(pool_one);
			}
		}
		assert_int_equal(notes_end(kept), 2 * NOTE_BURST);
		assert_true(f->stats.build_failures - failures > 2 * NOTE_BURST);
		check_well(round);
		pool_one->manual = true;
	}
}

/* One function has machines that wait, another none, and none can be made; then one can. */
static void test_one_function_is_unable(void **state)
{
	struct function *other = pool_bed_function(pool_one, "other", true);

	(void)state;
	pool_one->pool.limits.bare = 0;
	other->config.pool_min = other->config.pool_max = other->target = 0;
	check_well(0);
	pool_bed_advance(pool_one, 20000 * MS); /* nothing more is wanted */
	assert_null(pool_unable(&pool_one->pool));
	pool_one->manual = true;
	assert_true(request_begin(pool_one, &r[1], other, 3000 * MS));
	pool_bed_step(pool_one);
	for (unsigned i = 0; i < 10; i++) {
		if (fake_count(pool_one, FAKE_MADE))
			fake_ready(fake_find(pool_one, FAKE_MADE, 0), "no /dev/kvm");
		pool_bed_advance(pool_one, 1000 * MS);
		assert_non_null(f->armed);
		assert_non_null(pool_unable(&pool_one->pool));
		assert_string_equal(pool_unable(&pool_one->pool), "no /dev/kvm");
	}
	request_expect(&r[1], OUTCOME_HOST, "no /dev/kvm");
	/* Nobody needs to ask. */
	pool_one->manual = false;
	while (fake_count(pool_one, FAKE_MADE))
		fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	pool_bed_advance(pool_one, 1000 * MS);
	assert_null(pool_unable(&pool_one->pool));
}

/* --- Shells that say what they must not --- */

enum lie {
	LIE_READY_TWICE,
	LIE_NO_ANSWER_ASKED,
	LIE_WRONG_ID,
	LIE_SHORT,
	LIE_OUTCOME,
	LIE_LOG_LONG,
	LIE_LOG_SHORT,
	LIE_LOG_BESIDE_MEMFD,
	LIE_PAYLOAD,
	LIE_HUGE,
	LIE_PIPE,
	LIE_UNKNOWN,
	LIE_GARBAGE,
	LIES,
};

static void tell(struct fake_shell *s, enum lie lie)
{
	struct answer_head head = { .outcome = OUTCOME_RESPONSE, .payload_len = 2 };
	struct message m;
	int ends[2] = { -1, -1 };

	message_init(&m, lie == LIE_UNKNOWN       ? MESSAGE_QUIT
			 : lie == LIE_READY_TWICE ? MESSAGE_SHELL
						  : MESSAGE_ANSWER);
	m.id = s->invocation + (lie == LIE_WRONG_ID);
	m.text_len = sizeof(head) + 2;
	head.outcome = lie == LIE_OUTCOME ? OUTCOME_COUNT : head.outcome;
	if (lie == LIE_LOG_LONG) {
		head.log_len = INVOCATION_LOG_MAX + 1;
		m.text_len += head.log_len;
	} else if (lie == LIE_LOG_SHORT || lie == LIE_LOG_BESIDE_MEMFD) {
		head.log_len = 3;
	}
	head.payload_len = lie == LIE_PAYLOAD ? 3 : lie == LIE_HUGE ? 0xffffffff : 2;
	memcpy(m.text, &head, sizeof(head));
	if (lie == LIE_SHORT)
		m.text_len = sizeof(head) - 1;
	if (lie == LIE_PIPE) {
		assert_int_equal(pipe(ends), 0);
		m.fds[m.fd_count++] = ends[0];
	}
	if (lie == LIE_LOG_BESIDE_MEMFD) {
		ends[0] = memfd_create("payload", MFD_CLOEXEC);
		ends[1] = dup(ends[0]);
		assert_int_equal(write(ends[0], "ab", 2), 2);
		m.fds[m.fd_count++] = ends[0];
	}
	if (lie == LIE_GARBAGE)
		assert_int_equal(write(s->fd, "x", 1), 1);
	else
		assert_int_equal(message_try(s->fd, &m), 0);
	if (ends[0] >= 0) {
		close(ends[0]);
		close(ends[1]);
	}
}

static void test_lies(void **state)
{
	(void)state;
	for (unsigned lie = 0; lie < LIES; lie++) {
		unsigned killed = pool_one->killed;

		check_well(4 * lie);
		begin(4 * lie + 1);
		if (lie == LIE_NO_ANSWER_ASKED) {
			fake_answer(fake_of(pool_one, &r[4 * lie + 1]), OUTCOME_RESPONSE, "x");
			pool_bed_step(pool_one);
			tell(fake_find(pool_one, FAKE_OVER, 0), lie);
		} else {
			tell(fake_of(pool_one, &r[4 * lie + 1]), lie);
		}
		pool_bed_step(pool_one);
		assert_int_equal(pool_one->killed, killed + 1);
		request_expect(&r[4 * lie + 1],
			       lie == LIE_NO_ANSWER_ASKED ? OUTCOME_RESPONSE : OUTCOME_HOST, "");
	}
	/* Also while it waits. */
	settle();
	tell(fake_find(pool_one, FAKE_WAITS, 0), LIE_READY_TWICE);
	pool_bed_step(pool_one);
	tell(fake_find(pool_one, FAKE_WAITS, 0), LIE_GARBAGE);
	pool_bed_step(pool_one);
	check_well(60);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_one_open, pool_one_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_armed_dies),
		TEST(test_dead_before_invoke),
		TEST(test_running_dies),
		TEST(test_answers_and_dies),
		TEST(test_turning_dies),
		TEST(test_stranger_dies),
		TEST(test_held_dies),
		TEST(test_build_fails),
		TEST(test_build_fails_says_why),
		TEST(test_build_dies),
		TEST(test_build_takes_too_long),
		TEST(test_bare_build_fails),
		TEST(test_build_failures_are_said),
		TEST(test_one_function_is_unable),
		TEST(test_lies),
	};

	return cmocka_run_group_tests_name("pool_faults", tests, NULL, NULL);
}
