/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch/base/listener.c: who comes is accepted, and turned away with a word where there is no
 * descriptor left.
 */
#include "arch/base/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/io.h"
#include "tests/unit/descriptors.h"

#define WORD "no room\n"

/* An abstract address: its name is what the kernel chose. */
static struct sockaddr_un address;
static socklen_t address_len;
static struct listener_spare spare;
static int listening;

static int setup(void **state)
{
	(void)state;
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	address_len = sizeof(address);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &address_len), 0);
	assert_int_equal(listen(listening, 16), 0);
	assert_int_equal(listener_spare_init(&spare), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	listener_spare_fini(&spare);
	listener_spare_fini(&spare);
	close(listening);
	return 0;
}

static int client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, address_len), 0);
	return fd;
}

static int take(void)
{
	return listener_accept(&spare, listening, WORD, strlen(WORD));
}

/* What the client reads up to the end. */
static void expect_turned_away(int fd)
{
	char text[64] = "";

	assert_int_equal(recv(fd, text, sizeof(text), MSG_WAITALL), strlen(WORD));
	assert_string_equal(text, WORD);
	close(fd);
}

static void test_accept(void **state)
{
	int fd, other;

	(void)state;
	assert_int_equal(take(), -EAGAIN);
	other = client();
	fd = take();
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(take(), -EAGAIN);
	listener_turn_away(fd, WORD, strlen(WORD));
	expect_turned_away(other);
}

/* With no descriptor left each is told so; with some again the next is accepted. */
static void test_no_descriptor(void **state)
{
	struct rlimit old, limit;
	int clients[3], fd;
	unsigned before;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		clients[i] = client();
	before = descriptors_open();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = (struct rlimit){ .rlim_cur = (rlim_t)clients[2] + 1, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(take(), -ECONNREFUSED);
	assert_int_equal(take(), -ECONNREFUSED);
	io_raise_limit();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur == old.rlim_max);
	fd = take();
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(take(), -EAGAIN);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(descriptors_open(), before);
	expect_turned_away(clients[0]);
	expect_turned_away(clients[1]);
	close(clients[2]);
}

/* No descriptor is left and nobody waits: that is no reason to turn anybody away, or to stop. */
static void test_nobody(void **state)
{
	struct rlimit old, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = (struct rlimit){ .rlim_cur = (rlim_t)spare.fd + 1, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(take(), -EAGAIN);
	assert_true(spare.fd >= 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_accept),
		TEST(test_no_descriptor),
		TEST(test_nobody),
	};

	return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
