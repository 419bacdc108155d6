/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A builder and a machine whose guest has taken its process over: it floods, does not listen, passes
 * descriptors that nobody asked for. The builder's time-outs hold and it keeps nothing.
 * wrap: child_start
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/template/guest.h"
#include "tests/unit/descriptors.h"

#define STUCK_S 60 /* until a builder that waits for ever is ended, and the test with it */

static struct template_guest guest;
static struct config config;
static int machine; /* its end; -1 before it has started */
static unsigned before;

int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque);
int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque)
{
	int pair[2];

	(void)main;
	(void)opaque;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*child = (struct child){ .pid = 0, .fd = pair[0] };
	machine = pair[1];
	return 0;
}

static int setup(void **state)
{
	(void)state;
	alarm(STUCK_S);
	config_init(&config);
	assert_int_equal(config_set(&config, "serial", "none"), 0);
	before = descriptors_open();
	guest = (struct template_guest){ .name = "test" };
	assert_int_equal(template_guest_start(&guest, &config), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(guest.child.fd);
	close(machine);
	assert_int_equal(descriptors_open(), before);
	config_fini(&config);
	alarm(0);
	return 0;
}

static int say(enum message_type type, unsigned fds)
{
	struct message m;

	message_init(&m, type);
	m.fd_count = fds;
	for (unsigned i = 0; i < fds; i++)
		m.fds[i] = machine;
	return message_try(machine, &m);
}

static void test_one_that_does_not_listen(void **state)
{
	struct timeval patience = { 0 };
	socklen_t len = sizeof(patience);

	(void)state;
	/* More questions than there is room for answers, which it does not fetch. */
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned j = 0; j < 100; j++)
			assert_int_equal(say(MESSAGE_CONNECT, 0), 0);
		assert_int_equal(say(MESSAGE_READY, 0), 0);
		assert_int_equal(template_guest_ready(&guest, 30), 0);
	}
	/* What it is told itself is waited for, not for ever; here less long. */
	assert_int_equal(getsockopt(guest.child.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, &len), 0);
	assert_in_range(patience.tv_sec, 1, 60);
	patience = (struct timeval){ .tv_usec = 1000 };
	assert_int_equal(setsockopt(guest.child.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, len), 0);
	assert_int_equal(template_guest_request(&guest, "x", 1, 30000), -EAGAIN);
	assert_string_equal(error_text(), "the machine does not listen");
	assert_int_equal(template_guest_quiesce(&guest), -EAGAIN);
}

static void test_descriptors(void **state)
{
	unsigned open = descriptors_open();

	(void)state;
	assert_int_equal(say(MESSAGE_THREADS, 3), 0);
	assert_int_equal(say(MESSAGE_READY, 5), 0);
	assert_int_equal(template_guest_ready(&guest, 30), 0);
	assert_int_equal(descriptors_open(), open);
	assert_int_equal(say(MESSAGE_ANSWER, 2), 0);
	assert_int_equal(template_guest_request(&guest, "x", 1, 30000), 0);
	assert_int_equal(descriptors_open(), open);
	assert_int_equal(say(MESSAGE_ENDED, 4), 0);
	assert_int_equal(template_guest_ready(&guest, 30), -ESRCH);
	assert_int_equal(descriptors_open(), open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_that_does_not_listen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
	};

	return cmocka_run_group_tests_name("guest", tests, NULL, NULL);
}
