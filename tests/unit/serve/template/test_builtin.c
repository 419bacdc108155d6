/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded guest on real KVM, with the test as the owner of its function channel:
 * variables, and what it does to see whether a host puts up with it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "tests/unit/live_machine.h"

#define WAIT_S 20

/* What the channel said, under the VM lock. */
struct seen {
	pthread_cond_t changed;
	unsigned ready, answers, broken, logs;
	enum channel_type type;
	size_t answer_len;
	uint8_t answer[CHANNEL_PAYLOAD_MAX];
	size_t log_len;       /* of all logs */
	char log[256];        /* the last */
	struct kvm_regs regs; /* at the last answer */
	struct kvm_xsave xsave;
};

static struct live *machine;
static struct seen *seen;
static uint64_t last_id;

static void on_ready(void *opaque)
{
	((struct seen *)opaque)->ready++;
	pthread_cond_signal(&seen->changed);
}

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct seen *s = opaque;

	s->answers++;
	s->type = type;
	s->answer_len = len;
	if (len > 0)
		memcpy(s->answer, data, len);
	ioctl(machine->vm.vcpus[0].fd, KVM_GET_REGS, &s->regs);
	ioctl(machine->vm.vcpus[0].fd, KVM_GET_XSAVE, &s->xsave);
	pthread_cond_signal(&s->changed);
}

static void on_log(void *opaque, const void *data, size_t len)
{
	struct seen *s = opaque;

	s->logs++;
	s->log_len += len;
	snprintf(s->log, sizeof(s->log), "%.*s", (int)len, (const char *)data);
}

static void on_broken(void *opaque, int err, const char *why)
{
	(void)err;
	(void)why;
	((struct seen *)opaque)->broken++;
	pthread_cond_signal(&seen->changed);
}

/* VM lock held: waits until *count is no longer below `wanted`, or for ms; whether it is not. */
static bool wait_count(const unsigned *count, unsigned wanted, unsigned ms)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += (long)(ms % 1000) * 1000000;
	end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	while (*count < wanted)
		if (pthread_cond_timedwait(&seen->changed, &machine->vm.lock, &end) == ETIMEDOUT)
			return *count >= wanted;
	return true;
}

static void lock(void)
{
	pthread_mutex_lock(&machine->vm.lock);
}

static void unlock(void)
{
	pthread_mutex_unlock(&machine->vm.lock);
}

static int setup(void **state)
{
	struct channel_events events = {
		.ready = on_ready, .answer = on_answer, .log = on_log, .broken = on_broken
	};
	bool ready;

	(void)state;
	machine = live_boot(NULL, "");
	seen = calloc(1, sizeof(*seen));
	events.opaque = seen;
	pthread_cond_init(&seen->changed, NULL);
	channel_set_events(machine->channel, &events);
	live_start(machine);
	lock();
	ready = wait_count(&seen->ready, 1, WAIT_S * 1000);
	unlock();
	return ready ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	channel_set_events(machine->channel, &(struct channel_events){ 0 });
	live_end(machine);
	free(seen);
	return 0;
}

static void send_request(const void *data, size_t len)
{
	lock();
	if (channel_request(machine->channel, ++last_id, data, len, 0) < 0)
		fail_msg("%s", error_text());
	unlock();
}

/* Asks and waits for an answer of that type. */
static void ask_bytes(const void *data, size_t len, enum channel_type type)
{
	unsigned answers = seen->answers;

	send_request(data, len);
	lock();
	if (!wait_count(&seen->answers, answers + 1, WAIT_S * 1000))
		fail_msg("no answer to %.*s", (int)len, (const char *)data);
	assert_int_equal(seen->type, type);
	unlock();
}

static void ask(const char *text)
{
	ask_bytes(text, strlen(text), CHANNEL_RESPONSE);
}

static void expect(const char *request, const char *answer)
{
	ask(request);
	if (seen->answer_len != strlen(answer) ||
	    memcmp(seen->answer, answer, seen->answer_len) != 0)
		fail_msg("%s: answered %.*s, not %s", request, (int)seen->answer_len,
			 (const char *)seen->answer, answer);
}

static void expect_error(const char *request, const char *part)
{
	ask_bytes(request, strlen(request), CHANNEL_ERROR);
	seen->answer[seen->answer_len] = '\0';
	assert_non_null(strstr((char *)seen->answer, part));
}

/* --- Variables --- */

static void set_environment(const void *data, size_t len)
{
	lock();
	assert_int_equal(channel_environment(machine->channel, data, len), 0);
	unlock();
}

static void test_env(void **state)
{
	static const char first[] = "A=1\0NAME=a value = with more\0EMPTY=\0NAM=shorter\0A2=two";

	(void)state;
	expect("env A", "");
	set_environment(first, sizeof(first));
	expect("env A", "1");
	expect("env A2", "two");
	expect("env NAME", "a value = with more");
	expect("env NAM", "shorter");
	expect("env EMPTY", "");
	expect("env NAMES", "");
	expect("env N", "");
	expect("env name", "");
	expect("env NAME=a value ", ""); /* names have no = */
	expect("env", "");
	expect("env A\n", "");
	ask_bytes("env A\0", 6, CHANNEL_RESPONSE);
	assert_int_equal(seen->answer_len, 0);

	/* Others take their place, all of them. */
	set_environment("B=2", 4);
	expect("env B", "2");
	expect("env A", "");
	set_environment(NULL, 0);
	expect("env B", "");
	assert_int_equal(seen->logs, 0);
}

/* 4096 bytes are kept; more are ignored, and said. */
static void test_env_size(void **state)
{
	char data[CHANNEL_ENVIRONMENT_MAX];

	(void)state;
	memset(data, 'v', sizeof(data));
	memcpy(data, "NAME=", 5);
	data[4095] = data[4096] = data[sizeof(data) - 1] = '\0';
	set_environment(data, 4096);
	ask("env NAME");
	assert_int_equal(seen->answer_len, 4090);
	data[4095] = 'v';
	set_environment(data, 4097);
	expect("env NAME", "");
	assert_int_equal(seen->logs, 1);
	assert_non_null(strstr(seen->log, "4096"));
	data[4096] = 'v';
	set_environment(data, sizeof(data));
	expect("env NAME", "");
	assert_int_equal(seen->logs, 2);
	set_environment("NAME=again", 11);
	expect("env NAME", "again");
}

/* Frames of any length one behind the other, so that packets cut them anywhere. */
static void test_env_cut_anywhere(void **state)
{
	char data[4096], text[5000];

	(void)state;
	srandom(20261126);
	for (unsigned n = 0; n < 500; n++) {
		size_t len = (size_t)random() % 3000, gap = (size_t)random() % 1000;
		size_t other = (size_t)random() % 4990;

		memset(data, 'a' + (int)(n % 26), sizeof(data));
		memcpy(data, "GAP=", 4);
		data[4 + gap] = '\0';
		memcpy(data + 5 + gap, "NAME=", 5);
		data[10 + gap + len] = '\0';
		memset(text, 'x', sizeof(text));
		set_environment(data, 11 + gap + len);
		ask_bytes(text, other, CHANNEL_RESPONSE);
		assert_int_equal(seen->answer_len, other);
		set_environment(data, 11 + gap + len);
		ask("env NAME");
		assert_int_equal(seen->answer_len, len);
		assert_memory_equal(seen->answer, data + 10 + gap, len);
		ask("env GAP");
		assert_int_equal(seen->answer_len, gap);
	}
}

/* --- A guest that a host must put up with --- */

static void test_touch(void **state)
{
	const uint8_t *ram = machine->vm.memory.base;
	unsigned found = 0;

	(void)state;
	expect("touch 0 1", "0");
	expect("touch 40 171", "40");
	for (size_t i = 0; i < 16 * MIB; i += 4096)
		found += ram[i] == 171 && ram[i + 1] == 0 && ram[i + 4095] == 0;
	assert_int_equal(found, 40);
	expect_error("touch 4", "byte");
	expect_error("touch 4 256", "byte");
	expect_error("touch 4 1 x", "byte");
	expect_error("touch x 1", "number");
	expect_error("touch 100000 1", "pages");
}

static void test_log(void **state)
{
	(void)state;
	expect("log 3 some text", "");
	assert_int_equal(seen->logs, 3);
	assert_string_equal(seen->log, "some text");
	assert_int_equal(seen->log_len, 27);
	expect("log 0 text", "");
	assert_int_equal(seen->logs, 3);
	expect("log 100000 x", ""); /* many in a packet, and a rest */
	assert_int_equal(seen->logs, 100003);
	assert_int_equal(seen->log_len, 100027);
	expect("log 5", ""); /* empty ones are not heard */
	assert_int_equal(seen->logs, 100003);
	expect_error("log", "number");
}

static void test_log_of_any_length(void **state)
{
	char *text = malloc(3 * MIB);

	(void)state;
	for (unsigned n = 0; n < 12; n++) {
		size_t len = (size_t)random() % (n < 11 ? 100000 : 2 * MIB);
		int head = snprintf(text, 32, "log %u ", n);

		memset(text + head, 'y', len);
		seen->log_len = 0;
		ask_bytes(text, (size_t)head + len, CHANNEL_RESPONSE);
		assert_int_equal(seen->log_len, n * len);
	}
	free(text);
}

static void test_flood(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 40; n += 3) {
		char text[32];

		snprintf(text, sizeof(text), "flood %u", n);
		seen->logs = 0;
		seen->log_len = 0;
		expect(text, "");
		assert_int_equal(seen->logs, n);
		assert_int_equal(seen->log_len, n * 4000ul);
	}
	expect("flood 10001", "");
	assert_int_equal(seen->logs, 39 + 10001);
	expect("echo x", "x");
}

static void test_wrong_answers(void **state)
{
	struct timespec begin, end;

	(void)state;
	expect("twice text", "text");
	expect("echo x", "x");
	assert_int_equal(channel_dropped(machine->channel), 1);
	expect("twice", "");

	clock_gettime(CLOCK_MONOTONIC, &begin);
	expect("late 200000 text", "text");
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 >=
		    200);
	assert_int_equal(channel_dropped(machine->channel), 3);
	expect_error("late 600000001 x", "at most");
	assert_int_equal(seen->broken, 0);
}

static void test_big(void **state)
{
	static const unsigned sizes[] = { 0,
					  1,
					  255,
					  256,
					  65023,
					  65024,
					  65025,
					  130048,
					  999999,
					  65504u,
					  CHANNEL_PAYLOAD_MAX,
					  CHANNEL_PAYLOAD_MAX - 1 };
	char text[32];

	(void)state;
	for (unsigned n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		snprintf(text, sizeof(text), "big %u", sizes[n]);
		ask(text);
		assert_int_equal(seen->answer_len, sizes[n]);
		for (unsigned i = 0; i < sizes[n]; i++)
			if (seen->answer[i] != (uint8_t)i)
				fail_msg("%s: byte %u is %u", text, i, seen->answer[i]);
	}
}

/* The channel breaks without an answer; the guest opens it anew and answers as before. */
static void check_break(const char *request)
{
	unsigned broken = seen->broken, ready = seen->ready;

	send_request(request, strlen(request));
	lock();
	assert_true(wait_count(&seen->broken, broken + 1, WAIT_S * 1000));
	assert_int_equal(seen->answers, 0);
	assert_true(wait_count(&seen->ready, ready + 1, WAIT_S * 1000));
	unlock();
	expect("echo again", "again");
	expect("log 2 x", "");
	seen->answers = 0;
}

static void test_too_big(void **state)
{
	(void)state;
	check_break("big 6291457");
	check_break("big 18000000000000000000");
}

static void test_garbage(void **state)
{
	(void)state;
	check_break("garbage");
}

static void test_close(void **state)
{
	(void)state;
	check_break("close");
}

/* No answer, and the machine can be ended all the same (teardown). */
static void check_silence(const char *request)
{
	send_request(request, strlen(request));
	lock();
	assert_false(wait_count(&seen->answers, 1, 100));
	channel_cancel(machine->channel);
	assert_int_equal(channel_request(machine->channel, 99, "echo x", 6, 0), 0);
	assert_false(wait_count(&seen->answers, 1, 100));
	assert_int_equal(seen->broken, 0);
	unlock();
}

static void test_mute(void **state)
{
	(void)state;
	check_silence("mute");
}

static void test_hang(void **state)
{
	(void)state;
	check_silence("hang");
}

/* How often the mark stands in these bytes, at multiples of its length. */
static unsigned count_marks(const void *bytes, size_t len)
{
	unsigned count = 0;

	for (size_t at = 0; at + 16 <= len; at += 16)
		count += memcmp((const uint8_t *)bytes + at, "0123456789ABCDEF", 16) == 0;
	return count;
}

/* The registers are those of the exit that brought the answer. */
static void test_mark(void **state)
{
	const struct memory *ram = &machine->vm.memory;
	const struct kvm_regs *regs = &seen->regs;
	unsigned upper;

	(void)state;
	expect_error("mark 0123456789ABCDE", "16 bytes");
	expect_error("mark 0123456789ABCDEF0", "16 bytes");
	assert_int_equal(count_marks(&seen->xsave, sizeof(seen->xsave)), 0);
	assert_true(count_marks(ram->base, ram->size) < 16);
	expect("mark 0123456789ABCDEF", "");
	assert_true(count_marks(ram->base, ram->size) >= 16 * 4096 / 16);

	/* As KVM has them: rax rbx, rcx rdx, rsi rdi, rsp rbp, r8 ... r15. */
	assert_int_equal(count_marks(regs, 16 * 8), 7);
	assert_memory_equal(&regs->rbp, "89ABCDEF", 8);

	/* xmm0-15; the upper halves of ymm0-15 too, where the guest may use them. */
	assert_int_equal(count_marks(seen->xsave.region, 512), 16);
	upper = count_marks((const uint8_t *)seen->xsave.region + 576, 256);
	assert_true(upper == 16 || upper == 0);
	expect("echo x", "x");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_env),     TEST(test_env_size),      TEST(test_env_cut_anywhere),
		TEST(test_touch),   TEST(test_log),           TEST(test_log_of_any_length),
		TEST(test_flood),   TEST(test_wrong_answers), TEST(test_big),
		TEST(test_too_big), TEST(test_garbage),       TEST(test_close),
		TEST(test_mute),    TEST(test_hang),          TEST(test_mark),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("builtin", tests, NULL, NULL);
}
