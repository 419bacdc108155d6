/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch/base/sigbus.c: a page that a file has lost, where it is expected and anywhere else.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/sigbus.h"

#define STATUS 97
#define LEN    (4 * 4096u)

/* Pages without a file behind them. */
static volatile uint8_t *lost(void)
{
	int fd = memfd_create("lost", MFD_CLOEXEC);
	void *base = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);

	close(fd);
	if (base == MAP_FAILED)
		abort();
	return base;
}

/* Runs in a child what ends it; its wait status, and what it said. */
static int end_of(void (*body)(void), char text[256])
{
	const struct rlimit no_core = { 0, 0 };
	int fds[2], status;
	ssize_t len;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[1]);
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGILL, SIG_DFL); /* cmocka's */
		sigbus_begin(STATUS);
		body();
		_exit(0);
	}
	close(fds[1]);
	for (len = 0; len < 255;) {
		ssize_t n = read(fds[0], text + len, (size_t)(255 - len));

		if (n <= 0)
			break;
		len += n;
	}
	text[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void first_and_last(unsigned at)
{
	volatile uint8_t *base = lost();

	sigbus_expect((const void *)(uintptr_t)base, LEN, "it is lost");
	(void)base[at];
}

static void first(void)
{
	first_and_last(0);
}

static void last(void)
{
	first_and_last(LEN - 1);
}

static void beside(void)
{
	volatile uint8_t *base = lost(), *other = lost();

	sigbus_expect((const void *)(uintptr_t)base, LEN, "it is lost");
	(void)other[0];
}

static void forgotten(void)
{
	volatile uint8_t *base = lost();

	sigbus_expect((const void *)(uintptr_t)base, LEN, "it is lost");
	sigbus_forget((const void *)(uintptr_t)base);
	(void)base[0];
}

static void sent(void)
{
	sigbus_expect((const void *)(uintptr_t)lost(), LEN, "it is lost");
	kill(getpid(), SIGBUS);
}

/* More mappings than there is room for, one after the other. */
static void many(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		volatile uint8_t *base = lost();

		sigbus_expect((const void *)(uintptr_t)base, LEN, "nothing");
		sigbus_forget((const void *)(uintptr_t)base);
		munmap((void *)(uintptr_t)base, LEN);
	}
	first();
}

static void test_expected(void **state)
{
	void (*const bodies[])(void) = { first, last, many };
	char text[256];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		int status = end_of(bodies[i], text);

		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
		assert_string_equal(text, "virga: it is lost\n");
	}
}

static void test_anywhere_else(void **state)
{
	void (*const bodies[])(void) = { beside, forgotten, sent };
	char text[256];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		int status = end_of(bodies[i], text);

		assert_true(WIFSIGNALED(status));
		assert_string_equal(text, "");
		/* One that was sent ends it too, by a trap. */
		assert_int_equal(WTERMSIG(status), bodies[i] == sent ? SIGILL : SIGBUS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expected),
		cmocka_unit_test(test_anywhere_else),
	};

	return cmocka_run_group_tests_name("sigbus", tests, NULL, NULL);
}
