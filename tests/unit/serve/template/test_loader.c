/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/template/loader.c: a loader that answers, fails, ends, lies or does not end. What is executed is
 * this test, which does as the path that it is given says.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/template/loader.h"
#include "serve/template/loader_process.h"

static struct loop loop;
static struct timers timers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned done_count;
static bool loaded;
static char why[256];

extern char **environ;

/* In place of virga's own. */
static int fake_loader(char *const argv[])
{
	struct message m;

	if (child_begin(LOADER_NAME, argv[1]) < 0 || environ[0] || strcmp(argv[2], "4096") != 0)
		return 1;
	/* Nothing of the front is here but the socket. */
	for (int fd = CHILD_FD + 1; fd < 100; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			return 2;
	message_init(&m, MESSAGE_LOADING);
	m.id = (uint64_t)atoi(argv[3] + strcspn(argv[3], "0123456789")) << 20;
	message_send(CHILD_FD, &m);
	message_init(&m, MESSAGE_LOADED);
	if (strstr(argv[3], "hang"))
		for (;;)
			pause();
	if (strstr(argv[3], "fail"))
		message_set_text(&m, "it is damaged");
	if (strstr(argv[3], "load")) {
		m.fd_count = 2;
		m.fds[0] = memfd_create("memory", MFD_CLOEXEC);
		m.fds[1] = memfd_create("parts", MFD_CLOEXEC);
	}
	if (!strstr(argv[3], "end"))
		message_send(CHILD_FD, &m);
	return 0;
}

static void done(void *opaque, struct sealed *sealed, const char *error)
{
	(void)opaque;
	done_count++;
	loaded = sealed != NULL;
	snprintf(why, sizeof(why), "%s", error ? error : "");
}

static struct loader start(void)
{
	return (struct loader){ .loop = &loop, .timers = &timers, .child.fd = -1, .done = done };
}

static void run(const char *path)
{
	struct loader l = start();
	const struct loader_source source = { .path = path, .memory = 4096 };

	done_count = 0;
	assert_int_equal(loader_start(&l, &source), 0);
	while (!done_count)
		assert_true(loop_step(&loop, &lock, 30000) >= 0);
	assert_int_equal(done_count, 1);
	assert_int_equal(timers.count, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_ends(void **state)
{
	static const struct {
		const char *path, *why;
		bool loaded;
	} cases[] = {
		{ "/load", "", true },
		{ "/fail", "it is damaged", false },
		{ "/end", "the process that loads it ended", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run(cases[i].path);
		assert_string_equal(why, cases[i].why);
		assert_int_equal(loaded, cases[i].loaded);
	}
}

/* A minute, and a second for each 16 MiB that lie on its disk. */
static void test_late(void **state)
{
	static const struct {
		const char *path;
		uint64_t limit_s;
	} cases[] = { { "/hang/15", 60 }, { "/hang/40", 62 }, { "/hang/16384", 60 + 1024 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct loader_source source = { .path = cases[i].path, .memory = 4096 };
		uint64_t before_us = monotonic_us(), said_us;
		struct loader l = start();
		char words[64];

		done_count = 0;
		assert_int_equal(loader_start(&l, &source), 0);
		assert_in_range(l.timer.at_us, before_us + 60000000u, monotonic_us() + 60000000u);
		said_us = monotonic_us();
		assert_true(loop_step(&loop, &lock, 30000) >= 0);
		assert_int_equal(l.limit_s, cases[i].limit_s);
		timers_run(&timers, said_us + cases[i].limit_s * 1000000u - 1);
		assert_int_equal(done_count, 0);
		timers_run(&timers, monotonic_us() + cases[i].limit_s * 1000000u);
		assert_int_equal(done_count, 1);
		assert_false(loaded);
		snprintf(words, sizeof(words), "it was not loaded within %u s",
			 (unsigned)cases[i].limit_s);
		assert_non_null(strstr(why, words));
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(timers.count, 0);
	}
}

static int setup(void **state)
{
	(void)state;
	loop_init(&loop);
	return timers_reserve(&timers, 4);
}

static int teardown(void **state)
{
	(void)state;
	timers_fini(&timers);
	loop_fini(&loop);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_late),
	};

	if (argc > 1 && strcmp(argv[0], LOADER_NAME) == 0)
		return fake_loader(argv);
	return cmocka_run_group_tests_name("loader", tests, setup, teardown);
}
