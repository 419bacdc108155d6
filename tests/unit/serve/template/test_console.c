/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a guest's console: how much is kept, and how it is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve/template/console.h"
#include "tests/unit/redirect.h"

static struct console console;
static int write_fd;
static char said[65536];

static int setup(void **state)
{
	(void)state;
	return console_open(&console, &write_fd);
}

static int teardown(void **state)
{
	(void)state;
	console_close(&console);
	return 0;
}

static void guest_writes(const char *text)
{
	assert_int_equal(write(write_fd, text, strlen(text)), strlen(text));
}

/* What console_say() prints on stderr once the guest is gone. */
static const char *say(void)
{
	struct redirect r;
	int fds[2];

	close(write_fd);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	r = redirect(-1, -1, fds[1]);
	console_say(&console);
	redirect_undo(&r);
	said[drain(fds[0], said, sizeof(said) - 1)] = '\0';
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(console.fd, -1);
	return said;
}

static void test_nothing(void **state)
{
	(void)state;
	assert_false(console_read(&console));
	assert_int_not_equal(console.fd, -1);
	assert_string_equal(say(), "");
	assert_false(console_read(&console));
}

static void test_lines(void **state)
{
	(void)state;
	guest_writes("one\r\ntwo");
	assert_true(console_read(&console));
	assert_false(console_read(&console));
	guest_writes("!\r\n\r\n");
	assert_string_equal(say(), "virga: console: one\nvirga: console: two!\n");
}

static void test_the_last_lines(void **state)
{
	char line[32], want[2048] = "";

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "line %u\n", i);
		guest_writes(line);
		console_read(&console);
		if (i >= 1000 - 40)
			sprintf(want + strlen(want), "virga: console: line %u\n", i);
	}
	assert_string_equal(say(), want);
}

/* A line without end, and what a terminal would obey. */
static void test_hostile(void **state)
{
	size_t length = 0;

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		guest_writes("x\x1b");
		while (console_read(&console))
			length = console.len;
	}
	assert_int_equal(length, CONSOLE_KEPT);
	assert_null(strchr(say(), '\x1b'));
	assert_non_null(strstr(said, "x\\x1bx\\x1b"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_nothing),
		TEST(test_lines),
		TEST(test_the_last_lines),
		TEST(test_hostile),
	};

	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
