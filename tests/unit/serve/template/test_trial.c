/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trial clone whose guest has taken its process over: it says nothing, or messages without end that
 * answer nothing. Its builder's time is over all the same.
 * wrap: monotonic_us poll child_start child_stop
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "serve/template/trial.h"
#include "tests/unit/arch/own_time.h"
#include "tests/unit/descriptors.h"

#define POLLS_MAX 1000000u

static int clone_fd; /* the clone's end */
static bool talks;
static unsigned polls;

int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque);
int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque)
{
	int pair[2];

	(void)main;
	(void)opaque;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*child = (struct child){ .pid = 1, .fd = pair[0] };
	clone_fd = pair[1];
	return 0;
}

void __wrap_child_stop(struct child *child);
void __wrap_child_stop(struct child *child)
{
	close(child->fd);
}

/* Nothing is waited for: the time is over, or a moment and a message later. */
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct message m;

	assert_true(++polls < POLLS_MAX);
	assert_true(timeout_ms >= 0);
	own_time_us += talks ? 1000 : (uint64_t)timeout_ms * 1000;
	if (talks) {
		message_init(&m, MESSAGE_READY);
		m.fd_count = 1;
		m.fds[0] = clone_fd;
		assert_int_equal(message_try(clone_fd, &m), 0);
	}
	return __real_poll(fds, count, 0);
}

static void fails_in_time(void)
{
	struct trial trial = { .timeout_ms = 2000 };
	unsigned open = descriptors_open();
	uint64_t start_us = own_time_us;

	polls = 0;
	assert_int_equal(trial_run(&trial), -ETIMEDOUT);
	assert_string_equal(error_text(), "a trial clone does not end by itself");
	assert_in_range(own_time_us - start_us, 2000000, 600000000);
	close(clone_fd);
	assert_int_equal(descriptors_open(), open);
}

static void test_silence(void **state)
{
	(void)state;
	talks = false;
	fails_in_time();
}

static void test_talk(void **state)
{
	(void)state;
	talks = true;
	fails_in_time();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_talk),
	};

	return cmocka_run_group_tests_name("trial", tests, NULL, NULL);
}
