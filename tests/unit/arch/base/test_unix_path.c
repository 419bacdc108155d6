/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket files: whose place may be taken and whose not, their mode, and what is said.
 */
#include "arch/base/unix_path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"

static char path[64];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/virga-test-unix-path.%d", (int)getpid());
	return unlink(path) < 0 && errno != ENOENT ? -1 : 0;
}

static void assert_refused(const char *name, int error, const char *sentence)
{
	assert_int_equal(unix_path_listen(name), -error);
	assert_non_null(strstr(error_text(), sentence));
	if (*name)
		assert_non_null(strstr(error_text(), name));
}

static void test_live(void **state)
{
	int fd = unix_path_listen(path);
	struct stat st;
	int client;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_refused(path, EADDRINUSE, "another program listens on it");
	unix_path_remove_dead(path);
	client = unix_path_connect(path, false);
	assert_true(client >= 0);
	assert_int_equal(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
	close(client);
	close(fd);
	unlink(path);
}

static void test_left_over(void **state)
{
	int fd = unix_path_listen(path);

	(void)state;
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unix_path_connect(path, true), -ECONNREFUSED);
	fd = unix_path_listen(path);
	assert_true(fd >= 0);
	close(fd);
	unix_path_remove_dead(path);
	assert_int_equal(access(path, F_OK), -1);
	unix_path_remove_dead(path);
	unix_path_remove_dead(NULL);
	assert_int_equal(unix_path_connect(path, true), -ENOENT);
}

static void test_other_file(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused(path, EEXIST, "a file of that name is there");
	unix_path_remove_dead(path);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("/nowhere/at/all", path), 0);
	assert_refused(path, EEXIST, "a file of that name is there");
	assert_int_equal(unlink(path), 0);
}

static void test_bad_path(void **state)
{
	char name[101 + 1];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_refused(name, ENAMETOOLONG, "101 bytes; at most 100 are allowed");
	assert_refused("", ENOENT, "the path is empty");
	assert_refused("/nowhere/at/all", ENOENT, strerror(ENOENT));
	assert_int_equal(unix_path_connect("", true), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_live, setup),
		cmocka_unit_test_setup(test_left_over, setup),
		cmocka_unit_test_setup(test_other_file, setup),
		cmocka_unit_test_setup(test_bad_path, setup),
	};

	return cmocka_run_group_tests_name("unix_path", tests, NULL, NULL);
}
