/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/machine/shell.c over real sockets and real KVM: shells of all kinds answer what was asked, by each
 * policy; what the guest does wrong ends in its outcome; garbage ends the shell and nothing else.
 *
 * wrap: confine_process fstat
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/channel/protocol.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/seed.h"
#include "tests/unit/serve/machine/shell_bed.h"

#define GARBAGE_SHELLS 12u

static struct sealed template;
static struct seed seed;
static unsigned descriptors;

static int make_template(void **state)
{
	static const char *const warm[] = { "", "echo hello" };

	(void)state;
	template = template_make(16, warm, 2, true);
	descriptors = descriptors_open();
	return 0;
}

static int drop_template(void **state)
{
	(void)state;
	sealed_close(&template);
	return 0;
}

static int check_left(void **state)
{
	(void)state;
	assert_int_equal(descriptors_open(), descriptors);
	return 0;
}

/* --- Answers --- */

/* One request to a new shell of that kind, which ends well. */
static void check_once(enum shell_kind kind, const char *request, const char *answer)
{
	struct shell_process s = shell_start(&template, kind);
	struct shell_answer a;

	shell_ask(&s, 0x123456789abcdef, POLICY_ONCE, 0, kind == SHELL_BARE ? &template : NULL,
		  "NAME=value", request, strlen(request));
	a = shell_answer_take(&s);
	assert_true(a.id == 0x123456789abcdef);
	assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
	assert_string_equal(a.data, answer);
	assert_string_equal(a.log, "");
	for (unsigned i = 1; i < SHELL_STAGES; i++)
		assert_true(a.head.stages_ns[i] >= a.head.stages_ns[i - 1]);
	shell_answer_free(&a);
	/* It waits for nothing any more, and stands until it is let go. */
	assert_true(shell_silent(&s, 20));
	shell_ask(&s, 2, POLICY_ONCE, 0, NULL, NULL, request, strlen(request));
	assert_true(shell_silent(&s, 20));
	assert_int_equal(waitpid(s.pid, NULL, WNOHANG), 0);
	assert_int_equal(shell_end(&s), 0);
}

static void test_once(void **state)
{
	(void)state;
	for (unsigned kind = SHELL_BARE; kind <= SHELL_HURRIED; kind++) {
		check_once((enum shell_kind)kind, "echo hello", "hello");
		check_once((enum shell_kind)kind, "env NAME", "value");
		check_once((enum shell_kind)kind, "", "");
	}
}

/* Requests and answers of many lengths, in a message and beside it. */
static void test_lengths(void **state)
{
	static const size_t lengths[] = { 0,     1,     4095,   16300,   16344,
					  16384, 16385, 100000, 1000000, CHANNEL_PAYLOAD_MAX };
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	char *text = malloc(CHANNEL_PAYLOAD_MAX + 1);

	(void)state;
	for (size_t i = 0; i < CHANNEL_PAYLOAD_MAX; i++)
		text[i] = (char)(i * 7 + i / 253);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct shell_answer a;

		shell_ask(&s, i, POLICY_RESET, 0, NULL, NULL, text, lengths[i]);
		a = shell_answer_take(&s);
		assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
		assert_int_equal(a.len, lengths[i]);
		assert_memory_equal(a.data, text, a.len);
		shell_answer_free(&a);
		shell_await(&s);
	}
	free(text);
	assert_int_equal(shell_end(&s), 0);
}

/* The last 4096 bytes of what the guest said; of each request its own. */
static void test_log(void **state)
{
	struct shell_process s = shell_start(&template, SHELL_ARMED);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		static const char *const requests[] = { "log 3 abc", "log 0 x",
							"log 2000 0123456" };
		struct shell_answer a;

		for (unsigned i = 0; i < 3; i++) {
			shell_ask(&s, i, POLICY_RESET, 0, NULL, NULL, requests[i],
				  strlen(requests[i]));
			a = shell_answer_take(&s);
			assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
			assert_int_equal(a.head.log_len, i == 0 ? 9 : i == 1 ? 0 : 4096);
			if (i == 0)
				assert_string_equal(a.log, "abcabcabc");
			if (i == 2)
				assert_string_equal(a.log + 4096 - 9, "560123456");
			shell_answer_free(&a);
			shell_await(&s);
		}
	}
	assert_int_equal(shell_end(&s), 0);
}

/* --- Policies --- */

/* Another life each time: another generation, the variables that came with it. */
static void test_reset(void **state)
{
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	char ids[5][64];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct shell_answer a;

		shell_ask(&s, 100 + i, POLICY_RESET, 0, NULL, NULL, "id", 2);
		a = shell_answer_take(&s);
		snprintf(ids[i], sizeof(ids[i]), "%s", a.data);
		assert_int_equal(strlen(ids[i]), 32);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(ids[k], ids[i]);
		shell_answer_free(&a);
		shell_await(&s);
		shell_ask(&s, 200 + i, POLICY_RESET, 0, NULL, i & 1 ? "NAME=v" : NULL, "env NAME",
			  8);
		a = shell_answer_take(&s);
		assert_string_equal(a.data, i & 1 ? "v" : "");
		shell_answer_free(&a);
		shell_await(&s);
	}
	assert_int_equal(shell_end(&s), 0);
}

/* The same life goes on: it is given an identity and variables once. */
static void test_keep(void **state)
{
	(void)state;
	for (unsigned kind = SHELL_BARE; kind <= SHELL_HURRIED; kind++) {
		struct shell_process s = shell_start(&template, (enum shell_kind)kind);
		char id[64] = "";

		for (unsigned i = 0; i < 5; i++) {
			struct shell_answer a;

			shell_ask(&s, i, POLICY_KEEP, 0,
				  kind == SHELL_BARE && i == 0 ? &template : NULL,
				  i == 0 ? "NAME=first" : "NAME=later", "id", 2);
			a = shell_answer_take(&s);
			assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
			if (i)
				assert_string_equal(a.data, id);
			snprintf(id, sizeof(id), "%s", a.data);
			shell_answer_free(&a);
			shell_await(&s);
			shell_expect(&s, POLICY_KEEP, "env NAME", OUTCOME_RESPONSE, "first");
			shell_await(&s);
		}
		assert_int_equal(shell_end(&s), 0);
	}
}

/* A bare one that is given a template is one of that from then on. */
static void test_bare_then_reset(void **state)
{
	struct shell_process s = shell_start(&template, SHELL_BARE);
	struct shell_answer a;

	(void)state;
	shell_ask(&s, 1, POLICY_RESET, 0, &template, NULL, "echo a", 6);
	a = shell_answer_take(&s);
	assert_string_equal(a.data, "a");
	shell_answer_free(&a);
	shell_await(&s);
	for (unsigned i = 0; i < 10; i++) {
		shell_expect(&s, POLICY_RESET, "dirty 100", OUTCOME_RESPONSE, NULL);
		shell_await(&s);
	}
	assert_int_equal(shell_end(&s), 0);
}

/*
 * The first use of the page table that `remap 0` readied decides what the guest sees: a translation
 * that outlives a reset shows the page of the request before.
 */
static void test_remap(void **state)
{
	static const char *const warm[] = { "remap 0" };
	static const char *const requests[] = { "remap 1", "remap 2", "remap 1",
						"remap 1", "remap 2", "remap 1" };
	struct sealed remapped = template_make(16, warm, 1, false);

	(void)state;
	for (unsigned kind = SHELL_ARMED; kind <= SHELL_HURRIED; kind++) {
		struct shell_process s = shell_start(&remapped, (enum shell_kind)kind);

		for (unsigned i = 0; i < 6; i++) {
			shell_expect(&s, POLICY_RESET, requests[i], OUTCOME_RESPONSE,
				     requests[i][6] == '1' ? "A" : "B");
			shell_await(&s);
		}
		assert_int_equal(shell_end(&s), 0);
	}
	sealed_close(&remapped);
}

/* --- JSON --- */

static struct shell_answer ask_json(struct shell_process *s, const struct sealed *sealed,
				    const char *request)
{
	shell_ask(s, 3, POLICY_RESET, INVOKE_JSON | INVOKE_LOOK, sealed, NULL, request,
		  strlen(request));
	return shell_answer_take(s);
}

/* What is no JSON does not reach the guest; the shell is as it was, and says nothing more. */
static void test_not_json(void **state)
{
	static const char *const bad[] = { "", "{", "hello", "{} x", "\xff", "[1,]" };

	(void)state;
	for (unsigned kind = SHELL_BARE; kind <= SHELL_ARMED; kind++) {
		struct shell_process s = shell_start(&template, (enum shell_kind)kind);
		const struct sealed *sealed = kind == SHELL_BARE ? &template : NULL;
		struct shell_answer a;

		/* It has parsed what a stranger sent: nobody else gets it. */
		for (unsigned i = 0; i < 6; i++) {
			struct shell_process other = shell_start(&template, (enum shell_kind)kind);

			a = ask_json(&other, sealed, bad[i]);
			assert_int_equal(a.head.outcome, OUTCOME_NOT_JSON);
			shell_answer_free(&a);
			shell_ask(&other, 2, POLICY_ONCE, 0, sealed, NULL, "x", 1);
			assert_true(shell_silent(&other, 20));
			assert_int_equal(shell_end(&other), 0);
		}
		a = ask_json(&s, sealed, " {\"a\": [1, 2]} ");
		assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
		assert_string_equal(a.data, " {\"a\": [1, 2]} ");
		shell_answer_free(&a);
		shell_await(&s);
		a = ask_json(&s, NULL, "7"); /* any value is JSON */
		assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
		assert_string_equal(a.data, "7");
		shell_answer_free(&a);
		shell_await(&s);
		assert_int_equal(shell_end(&s), 0);
	}
}

/* --- Guests that go wrong --- */

static void test_outcomes(void **state)
{
	static const struct {
		const char *request;
		enum invocation_outcome outcome;
		const char *words;
	} wrong[] = {
		{ "fault", OUTCOME_CRASHED, "" },         { "exit 3", OUTCOME_ENDED, "" },
		{ "garbage", OUTCOME_BROKEN, "" },        { "close", OUTCOME_BROKEN, "" },
		{ "big 6291457", OUTCOME_TOO_LARGE, "" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct shell_process s = shell_start(&template, SHELL_ARMED);
		struct shell_answer a;

		shell_ask(&s, i, POLICY_RESET, 0, NULL, NULL, wrong[i].request,
			  strlen(wrong[i].request));
		a = shell_answer_take(&s);
		if (a.head.outcome != wrong[i].outcome)
			fail_msg("%s: outcome %u: %s", wrong[i].request, a.head.outcome, a.data);
		assert_true(a.len > 0);
		shell_answer_free(&a);
		/* It is of no more use whatever the policy. */
		shell_await_end(&s);
		assert_int_equal(shell_end(&s), 0);
	}
}

/* After these it is. */
static void test_odd_guests(void **state)
{
	struct shell_process s = shell_start(&template, SHELL_ARMED);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		shell_expect(&s, POLICY_RESET, "twice text", OUTCOME_RESPONSE, "text");
		shell_await(&s);
		shell_expect(&s, POLICY_RESET, "late 1000 text", OUTCOME_RESPONSE, "text");
		shell_await(&s);
		shell_expect(&s, POLICY_RESET, "dirty x", OUTCOME_ERROR, NULL);
		shell_await(&s);
		shell_expect(&s, POLICY_RESET, "flood 100", OUTCOME_RESPONSE, "");
		shell_await(&s);
		shell_expect(&s, POLICY_RESET, "echo x", OUTCOME_RESPONSE, "x");
		shell_await(&s);
	}
	assert_int_equal(shell_end(&s), 0);
}

/* --- Whoever speaks to a shell --- */

static void send_random(struct shell_process *s)
{
	struct message *m = &s->m;
	struct invoke_head head;

	message_init(m, (enum message_type)seed_below(&seed, 160));
	if (seed_below(&seed, 2))
		m->type = MESSAGE_INVOKE;
	m->id = seed_next(&seed);
	m->text_len = (uint32_t)seed_below(&seed, 200);
	seed_bytes(&seed, m->text, m->text_len);
	seed_bytes(&seed, &head, sizeof(head));
	head.flags &= 15;
	head.policy &= 3;
	if (seed_below(&seed, 2)) {
		head.environment_len &= 0xff;
		head.payload_len &= 0xff;
	}
	if (seed_below(&seed, 2))
		memcpy(m->text, &head, sizeof(head));
	m->fd_count = (uint32_t)seed_below(&seed, MESSAGE_FDS_MAX + 1);
	for (unsigned i = 0; i < m->fd_count; i++)
		m->fds[i] = (int[]){ template.memory_fd, template.parts_fd, s->fd,
				     0 }[seed_below(&seed, 4)];
	if (seed_below(&seed, 10) == 0)
		send(s->fd, m->text, m->text_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		message_try(s->fd, m);
}

/* Ends well, whatever was said to it; others, of the same template too, are as they were. */
static void test_garbage(void **state)
{
	struct shell_process other = shell_start(&template, SHELL_ARMED);

	(void)state;
	for (unsigned i = 0; i < GARBAGE_SHELLS; i++) {
		struct shell_process s = shell_start(&template, (enum shell_kind)(i % 3));
		int status;

		for (unsigned n = 0; n < 1 + 10 * i; n++)
			send_random(&s);
		shell_expect(&other, POLICY_RESET, "echo still here", OUTCOME_RESPONSE,
			     "still here");
		shell_await(&other);
		/* A guest that has not been asked for anything may run for ever: it is ended. */
		if (shell_silent(&s, 300))
			kill(s.pid, SIGKILL);
		status = shell_end(&s);
		assert_true(status == 0 || status == SIGKILL);
	}
	assert_int_equal(shell_end(&other), 0);
}

/* One malformed message, and it is of no more use. */
static void check_refused(const struct message *m)
{
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	struct shell_answer a;

	assert_int_equal(message_send(s.fd, m), 0);
	a = shell_answer_take(&s);
	assert_int_equal(a.head.outcome, OUTCOME_HOST);
	shell_answer_free(&a);
	shell_ask(&s, 2, POLICY_ONCE, 0, NULL, NULL, "x", 1);
	assert_true(shell_silent(&s, 20));
	assert_int_equal(shell_end(&s), 0);
}

static void test_malformed(void **state)
{
	struct invoke_head head = { .payload_len = 4 };
	struct message m;

	(void)state;
	message_init(&m, MESSAGE_INVOKE);
	check_refused(&m); /* no head */
	m.text_len = sizeof(head) + 3;
	memcpy(m.text, &head, sizeof(head));
	check_refused(&m); /* too short */
	m.text_len++;
	head.environment_len = 5;
	memcpy(m.text, &head, sizeof(head));
	check_refused(&m);
	head.environment_len = INVOCATION_ENVIRONMENT_MAX + 1;
	memcpy(m.text, &head, sizeof(head));
	m.text_len = (uint32_t)sizeof(head) + head.environment_len + 4;
	check_refused(&m); /* too long */
	m.text_len = sizeof(head) + 4;
	head = (struct invoke_head){ .payload_len = 4, .policy = POLICY_KEEP + 1 };
	memcpy(m.text, &head, sizeof(head));
	check_refused(&m);
	head = (struct invoke_head){ .payload_len = 4, .flags = INVOKE_TEMPLATE };
	memcpy(m.text, &head, sizeof(head));
	check_refused(&m); /* without its descriptors */
	m.fds[0] = template.memory_fd;
	m.fds[1] = template.parts_fd;
	m.fd_count = 2;
	check_refused(&m); /* to one that has one */
	head.flags = 0;
	memcpy(m.text, &head, sizeof(head));
	check_refused(&m); /* descriptors that nobody speaks of */
}

/* It has no descriptor left for an answer that is too long for a message: the caller is told so. */
static void test_no_descriptor(void **state)
{
	const struct rlimit none = { 0, 0 };
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	struct shell_answer a;

	(void)state;
	assert_int_equal(prlimit(s.pid, RLIMIT_NOFILE, &none, NULL), 0);
	shell_ask(&s, 1, POLICY_ONCE, 0, NULL, NULL, "big 300000", 10);
	a = shell_answer_take(&s);
	assert_int_equal(a.head.outcome, OUTCOME_HOST);
	assert_string_equal(a.data, "cannot keep a message of 300000 bytes: Too many open files");
	shell_answer_free(&a);
	assert_int_equal(shell_end(&s), 0);
}

/* A template of another shape, and no template at all, to a bare one. */
static void test_wrong_template(void **state)
{
	struct sealed wrong[3] = {
		template_make(20, NULL, 0, false),
		{ .memory_fd = template.memory_fd, .parts_fd = template.memory_fd },
		{ .memory_fd = template.parts_fd, .parts_fd = template.parts_fd }
	};

	static const char *const words[] = { "a template of another shape", "none of a template",
					     "", "a bare shell without a template" };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct shell_process s = shell_start(&template, SHELL_BARE);
		struct shell_answer a;

		shell_ask(&s, i, POLICY_ONCE, 0, i < 3 ? &wrong[i] : NULL, NULL, "x", 1);
		a = shell_answer_take(&s);
		assert_int_equal(a.head.outcome, OUTCOME_HOST);
		assert_true(a.len > 0);
		if (!strstr(a.data, words[i]))
			fail_msg("'%s' does not say '%s'", a.data, words[i]);
		shell_answer_free(&a);
		assert_int_equal(shell_end(&s), 0);
	}
	sealed_close(&wrong[0]);
}

#define TEST(name) cmocka_unit_test_teardown(name, check_left)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_once),           TEST(test_lengths),       TEST(test_log),
		TEST(test_reset),          TEST(test_keep),          TEST(test_bare_then_reset),
		TEST(test_remap),          TEST(test_not_json),      TEST(test_outcomes),
		TEST(test_odd_guests),     TEST(test_garbage),       TEST(test_malformed),
		TEST(test_wrong_template), TEST(test_no_descriptor),
	};

	signal(SIGPIPE, SIG_IGN);
	seed = seed_begin(4030);
	return cmocka_run_group_tests_name("shell", tests, make_template, drop_template);
}
