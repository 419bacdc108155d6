/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/http/address.c: what is an address, which are served, and what is said of the others.
 */
#include "serve/http/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "tests/unit/descriptors.h"

static char path[64], unix_address[80];
static unsigned descriptors;

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/virga-test-address.%d", (int)getpid());
	snprintf(unix_address, sizeof(unix_address), "unix:%s", path);
	descriptors = descriptors_open();
	return unlink(path) < 0 && errno != ENOENT ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(descriptors_open(), descriptors);
	return 0;
}

static void check_refused(int ret, int err, const char *text, const char *words)
{
	if (ret != -err)
		fail_msg("%s: %d", text, ret);
	if (!strstr(error_text(), words) || !strstr(error_text(), text))
		fail_msg("'%s' does not say '%s' and '%s'", error_text(), text, words);
}

/* Listens, connects, says a word. */
static void check_served(const char *text, const char *prefix)
{
	char shown[ADDRESS_TEXT_MAX], again[ADDRESS_TEXT_MAX], word[8] = "";
	int fd = address_listen(text, shown), client, server;

	if (fd < 0)
		fail_msg("%s: %s", text, error_text());
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(accept(fd, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	if (strncmp(shown, prefix, strlen(prefix)) != 0)
		fail_msg("%s is shown as %s", text, shown);
	client = address_connect(shown);
	assert_true(client >= 0);
	assert_int_equal(fcntl(client, F_GETFD), FD_CLOEXEC);
	assert_false(fcntl(client, F_GETFL) & O_NONBLOCK);
	server = accept(fd, NULL, NULL);
	assert_int_equal(write(client, "word", 4), 4);
	assert_int_equal(read(server, word, sizeof(word)), 4);
	assert_string_equal(word, "word");
	/* There is one of each. */
	check_refused(address_listen(shown, again), EADDRINUSE,
		      address_path(shown) ? address_path(shown) : shown, "another program listens");
	close(server);
	close(client);
	close(fd);
}

static void test_served(void **state)
{
	(void)state;
	check_served("127.0.0.1:0", "127.0.0.1:");
	check_served("127.12.34.56:0", "127.12.34.56:");
	check_served("localhost:0", "127.0.0.1:");
	assert_true(address_is_localhost("localhost:1"));
	assert_false(address_is_localhost("localhost"));
	assert_false(address_is_localhost("127.0.0.1:1"));
	check_served("127.0.0.1:000", "127.0.0.1:");
}

static void test_ipv6(void **state)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct stat st;

	(void)state;
	close(fd);
	if (fd < 0 || stat("/proc/net/if_inet6", &st) < 0) {
		print_message("needs a kernel with IPv6\n");
		skip();
	}
	check_served("[::1]:0", "[::1]:");
}

static void test_unix(void **state)
{
	char shown[ADDRESS_TEXT_MAX];
	struct stat st;
	int fd;

	(void)state;
	check_served(unix_address, "unix:/tmp/");
	/* What a host that is gone has left is taken over. */
	fd = address_listen(unix_address, shown);
	assert_true(fd >= 0);
	assert_string_equal(shown, unix_address);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_string_equal(address_path(unix_address), path);
	assert_null(address_path("127.0.0.1:1"));
	assert_null(address_path("unix"));
	close(fd);
	unlink(path);
	check_refused(address_listen("unix:", shown), ENOENT, "socket", "the path is empty");
}

/* Nobody asks who a caller is. */
static void test_not_loopback(void **state)
{
	static const char *const addresses[] = { "0.0.0.0:0",         "192.168.1.1:80",
						 "126.255.255.255:1", "128.0.0.1:1",
						 "255.255.255.255:1", "[::]:0",
						 "[fe80::1]:1",       "[::ffff:127.0.0.1]:0",
						 "[2001:db8::1]:80" };
	char shown[ADDRESS_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		check_refused(address_listen(addresses[i], shown), EPERM, addresses[i],
			      "only loopback addresses and unix sockets are served");
		assert_non_null(
			strstr(error_text(), "put a proxy that does (nginx, Envoy) in front"));
	}
}

static void test_no_address(void **state)
{
	static const char *const texts[] = {
		"",
		":",
		":80",
		"80",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:x",
		"127.0.0.1:80x",
		"127.0.0.1:-1",
		"127.0.0.1:+1",
		"127.0.0.1: 1",
		"127.0.0.1:65536",
		"127.0.0.1:18446744073709551617",
		"127.0.0:80",
		"127.0.0.1.1:80",
		"host:80",
		"localhost.:80",
		"::1:80",
		"[::1]",
		"[::1]x:80",
		"[::1:80",
		"[]:80",
		"[127.0.0.1]:80",
		"[::1%lo]:80",
		"http://127.0.0.1:80",
		"*:80",
		"Unix:/x",
		" 127.0.0.1:80",
		"127.0.0.1111111111111111111111111111111111111111111111111111111111111111111111:80"
	};
	char shown[ADDRESS_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		check_refused(address_listen(texts[i], shown), EINVAL, texts[i],
			      "is not an address: 127.0.0.1:PORT, [::1]:PORT and unix:PATH are");
		check_refused(address_connect(texts[i]), EINVAL, texts[i], "is not an address");
	}
}

static void test_nobody_there(void **state)
{
	char shown[ADDRESS_TEXT_MAX];
	int fd = address_listen("127.0.0.1:0", shown);

	(void)state;
	close(fd);
	check_refused(address_connect(shown), ECONNREFUSED, shown, "no host answers at 127.0.0.1:");
	check_refused(address_connect(unix_address), ENOENT, unix_address, "no host answers at");
	check_refused(address_connect("unix:"), ENOENT, "unix:", "no host answers at");
}

static void test_runtime(void **state)
{
	char text[ADDRESS_TEXT_MAX], long_name[200];

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	assert_int_equal(address_runtime(text), 0);
	assert_string_equal(text, "unix:/run/user/7/virga.sock");
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	long_name[0] = '/';
	setenv("XDG_RUNTIME_DIR", long_name, 1);
	assert_int_equal(address_runtime(text), -ENOENT);
	/* None, or one that is none: root has a place of its own. */
	for (unsigned i = 0; i < 3; i++) {
		if (i == 0)
			unsetenv("XDG_RUNTIME_DIR");
		else
			setenv("XDG_RUNTIME_DIR", i == 1 ? "" : "relative", 1);
		assert_int_equal(address_runtime(text), getuid() == 0 ? 0 : -ENOENT);
		if (getuid() == 0)
			assert_string_equal(text, "unix:/run/virga.sock");
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_served),       TEST(test_ipv6),       TEST(test_unix),
		TEST(test_not_loopback), TEST(test_no_address), TEST(test_nobody_there),
		TEST(test_runtime),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
