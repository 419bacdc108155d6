/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a character device: a reader that does not read, files, pipes,
 * sockets, terminals and pseudo-terminals, each without ever blocking.
 */
/* wrap: vm_end */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "devices/backend/stream.h"
#include "tests/unit/redirect.h"

static struct {
	struct vm vm;
	struct stream stream;
	bool open;
	unsigned arrivals;
	enum vm_end_reason end;
} test;

void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...);
void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...)
{
	assert_ptr_equal(vm, &test.vm);
	(void)code;
	(void)fmt;
	test.end = reason;
}

static void arrived(void *opaque)
{
	(void)opaque;
	test.arrivals++;
}

static int setup(void **state)
{
	(void)state;
	memset(&test, 0, sizeof(test));
	pthread_mutex_init(&test.vm.lock, NULL);
	loop_init(&test.vm.loop);
	return 0;
}

static void stop(void)
{
	if (test.open)
		stream_close(&test.stream);
	test.open = false;
}

static int teardown(void **state)
{
	(void)state;
	stop();
	assert_int_equal(test.vm.loop.count, 0);
	loop_fini(&test.vm.loop);
	return 0;
}

static int try_start(const char *spec)
{
	int ret = stream_open(&test.stream, &test.vm, "serial", spec, arrived, NULL);

	test.open = ret == 0;
	return ret;
}

/* Opens stdio with these as stdin and stdout; our own are back when it returns. */
static void start_stdio(int input, int output)
{
	struct redirect r = redirect(input, output, -1);
	int ret = try_start("stdio");

	redirect_undo(&r);
	assert_int_equal(ret, 0);
}

static void put(const char *text)
{
	struct redirect r = redirect(0, 1, -1); /* what it says on stderr is not for our log */

	stream_write(&test.stream, text, strlen(text));
	redirect_undo(&r);
}

static void expect(const char *text)
{
	char found[STREAM_INPUT_SIZE + 1] = "";

	stream_read(&test.stream, found, STREAM_INPUT_SIZE);
	assert_string_equal(found, text);
}

/* Handles what the watches have to say within 20 ms; how often they had something. */
static unsigned events(void)
{
	struct pollfd p = { .fd = test.vm.loop.epoll_fd, .events = POLLIN };
	unsigned n = 0;

	while (n < 100 && poll(&p, 1, 20) == 1) {
		test.vm.loop.stopping = true; /* one batch, then return */
		assert_int_equal(loop_run(&test.vm.loop, &test.vm.lock), 0);
		n++;
	}
	return n;
}

/* --- What is watched, what is refused --- */

static void test_none_watches_nothing(void **state)
{
	(void)state;
	assert_int_equal(try_start("none"), 0);
	put("gone");
	expect("");
	assert_int_equal(test.vm.loop.epoll_fd, -1);
	stop();
	assert_int_equal(try_start(NULL), 0);
	stop();
	start_stdio(-1, -1); /* /dev/null */
	put("gone");
	expect("");
	assert_int_equal(test.vm.loop.epoll_fd, -1);
}

static void test_bad_spec(void **state)
{
	static const char *const bad[] = { "", "file:", "stdout", "file", "tcp:1", "none " };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(try_start(bad[i]), -EINVAL);
		assert_non_null(strstr(error_text(), "file:PATH"));
	}
	assert_int_equal(try_start("file:/nonexistent/x"), -ENOENT);
	assert_non_null(strstr(error_text(), "/nonexistent/x"));
}

static void test_file(void **state)
{
	char path[] = "/tmp/virga-stream-XXXXXX", spec[64], text[64] = "";
	int fd = mkstemp(path);
	struct stat st;

	(void)state;
	assert_int_equal(write(fd, "old contents", 12), 12);
	snprintf(spec, sizeof(spec), "file:%s", path);
	assert_int_equal(try_start(spec), 0);
	put("new\n");
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_string_equal(text, "new\n");
	/* Another writer's bytes are not overwritten. */
	assert_int_equal(pwrite(fd, "other\n", 6, 4), 6);
	put("more\n");
	assert_int_equal(pread(fd, text, sizeof(text), 0), 15);
	assert_string_equal(text, "new\nother\nmore\n");
	stop();
	unlink(path);
	assert_int_equal(try_start(spec), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0133, 0);
	unlink(path);
	close(fd);
}

/* --- Output that is not read --- */

static void fill(size_t len)
{
	struct redirect r = redirect(0, 1, -1);

	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)(i % 251);

		stream_write(&test.stream, &byte, 1);
	}
	redirect_undo(&r);
}

static void test_full_pipe(void **state)
{
	static char text[256 * 1024];
	int fds[2];
	size_t len, size;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	size = (size_t)fcntl(fds[1], F_GETPIPE_SZ);
	start_stdio(-1, fds[1]);
	test.vm.has_loop_thread = true;
	assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	fill(size + STREAM_RING_SIZE + 5000);
	assert_int_equal(test.vm.loop.count, 1); /* waits for room */
	assert_int_equal(test.stream.dropped, 5000);
	len = drain(fds[0], text, sizeof(text));
	assert_int_equal(len, size);
	while (events())
		len += drain(fds[0], text + len, sizeof(text) - len);
	/* What came out is the beginning of what went in: the newest was dropped. */
	assert_int_equal(len, size + STREAM_RING_SIZE);
	for (size_t i = 0; i < len; i++)
		assert_int_equal((uint8_t)text[i], i % 251);
	assert_int_equal(test.vm.loop.count, 0);
	put("again");
	assert_int_equal(drain(fds[0], text, sizeof(text)), 5);
	close(fds[0]);
	put("the reader is gone");
	put("and nothing happens");
	close(fds[1]);
	test.stream.dropped = 0; /* close would say so */
}

/* A pipe takes a few bytes and no more: what is short does not overtake what waits. */
static void test_nearly_full_pipe(void **state)
{
	static char text[256 * 1024];
	int fds[2];
	size_t size, room = 96;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	size = (size_t)fcntl(fds[1], F_GETPIPE_SZ);
	memset(text, 'x', size);
	assert_int_equal(write(fds[1], text, size - room), size - room);
	start_stdio(-1, fds[1]);
	memset(text, 'a', 2 * room);
	stream_write(&test.stream, text, 2 * room); /* whole or not at all */
	put("short");
	assert_int_equal(drain(fds[0], text, sizeof(text)), size - room);
	stop();
	close(fds[1]);
	assert_int_equal(drain(fds[0], text, sizeof(text)), 2 * room + 5);
	assert_memory_equal(text + 2 * room, "short", 5);
	close(fds[0]);
}

/* Without a loop thread what waits goes out with the next byte, and at the end. */
static void test_full_pipe_without_loop(void **state)
{
	static char text[256 * 1024];
	int fds[2];
	size_t size;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	size = (size_t)fcntl(fds[1], F_GETPIPE_SZ);
	start_stdio(-1, fds[1]);
	fill(size + 10000);
	assert_int_equal(test.vm.loop.count, 0);
	assert_int_equal(drain(fds[0], text, 8192), 8192);
	put("b");
	assert_int_equal(drain(fds[0], text, size), size);
	stop();
	close(fds[1]);
	assert_int_equal(drain(fds[0], text, sizeof(text)), 10001 - 8192);
	assert_int_equal(text[10000 - 8192], 'b');
	close(fds[0]);
}

/* A socket cannot be opened once more: the way by poll. */
static void test_socket(void **state)
{
	static char text[65536];
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	start_stdio(fds[0], fds[0]);
	assert_false(test.stream.out.nonblock);
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	fill(1000000); /* does not block */
	assert_true(test.stream.dropped > 0);
	while (drain(fds[1], text, sizeof(text)))
		;
	assert_int_equal(write(fds[1], "hi", 2), 2);
	assert_true(events() > 0);
	expect("hi");
	close(fds[0]);
	close(fds[1]);
	events();
	test.stream.dropped = 0;
}

/* --- Input --- */

static void test_pipe_input(void **state)
{
	char some[5] = "";
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start_stdio(fds[0], -1);
	assert_int_equal(test.vm.loop.count, 1);
	expect("");
	assert_int_equal(write(fds[1], "0123456789", 10), 10);
	assert_int_equal(test.arrivals, 0);
	events();
	assert_int_equal(test.arrivals, 1);
	assert_int_equal(stream_read(&test.stream, some, 4), 4);
	assert_string_equal(some, "0123");
	close(fds[1]);
	assert_true(events() < 10); /* an end with bytes before it is no reason to spin */
	expect("456789");
	expect("");
	assert_int_equal(events(), 0);
	assert_int_equal(test.end, VM_END_NONE);
	close(fds[0]);
}

static void test_unread(void **state)
{
	char some[4];
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start_stdio(fds[0], -1);
	assert_int_equal(write(fds[1], "0123456789", 10), 10);
	events();
	assert_int_equal(stream_read(&test.stream, some, 4), 4);
	stream_unread(&test.stream, some + 1, 3);
	expect("123456789");
	close(fds[0]);
	close(fds[1]);
}

static void test_file_input(void **state)
{
	char path[] = "/tmp/virga-stream-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	unlink(path);
	assert_int_equal(write(fd, "regular file", 12), 12);
	lseek(fd, 0, SEEK_SET);
	start_stdio(fd, -1);
	assert_int_equal(test.vm.loop.epoll_fd, -1);
	expect("regular file");
	expect("");
	close(fd);
}

static void test_terminal_keys(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct termios raw;

	(void)state;
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	start_stdio(slave, slave);
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(write(master, "a\x01\x01\x01z", 5), 5);
	events();
	expect("a\x01\x01z");
	/* The escape works though nobody reads the keys before it. */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write(master, "kkkkkkkkkk", 10), 10);
	events();
	assert_int_equal(test.end, VM_END_NONE);
	assert_int_equal(write(master, "\x01x", 2), 2);
	events();
	assert_int_equal(test.end, VM_END_QUIT);
	close(slave);
	close(master);
}

static void test_pty(void **state)
{
	char line[128] = "", text[16] = "", *path;
	struct redirect r;
	int fds[2], fd;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	r = redirect(-1, -1, fds[1]);
	assert_int_equal(try_start("pty"), 0);
	redirect_undo(&r);
	drain(fds[0], line, sizeof(line) - 1);
	path = strstr(line, "/dev/");
	assert_non_null(path);
	*strchr(path, '\n') = 0;
	put("early\n");
	fd = open(path, O_RDWR | O_NOCTTY);
	assert_true(fd >= 0);
	assert_int_equal(drain(fd, text, sizeof(text)), 6);
	assert_string_equal(text, "early\n");
	assert_int_equal(write(fd, "in", 2), 2);
	events();
	expect("in");
	close(fd);
	assert_true(events() < 10); /* the other end going is no reason to spin */
	close(fds[0]);
	close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_none_watches_nothing),
		TEST(test_bad_spec),
		TEST(test_file),
		TEST(test_full_pipe),
		TEST(test_nearly_full_pipe),
		TEST(test_full_pipe_without_loop),
		TEST(test_socket),
		TEST(test_pipe_input),
		TEST(test_unread),
		TEST(test_file_input),
		TEST(test_terminal_keys),
		TEST(test_pty),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
