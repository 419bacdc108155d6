/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor over a fake VM process: snapshots through QMP and through the command, and
 * connections that the guest begins.
 *
 * wrap: timerfd_settime
 */
#include "serve/cli/command.h"
#include "serve/control/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "boot/snapshot/snapshot.h"
#include "tests/unit/serve/control/supervisor_fixture.h"

/* A second of the supervisor's timers takes 20 ms. */
static bool hurried;

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);

static struct timespec hurry(const struct timespec *span)
{
	return (struct timespec){ .tv_sec = span->tv_sec / 50,
				  .tv_nsec = span->tv_sec % 50 * 20000000 };
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old)
{
	struct itimerspec sooner = { .it_interval = hurry(&value->it_interval),
				     .it_value = hurry(&value->it_value) };

	return __real_timerfd_settime(fd, flags, hurried ? &sooner : value, old);
}

/* --- Fake VM processes --- */

static void vm_not_ready(int fd)
{
	vm_say(fd, MESSAGE_THREADS, 0, 0, "11");
	vm_serve(fd);
}

static void vm_cannot_save(int fd)
{
	static struct message m;

	vm_say(fd, MESSAGE_READY, 0, 0, "");
	vm_next(fd, &m);
	vm_say(fd, MESSAGE_SNAPSHOT_DONE, 0, ENOSPC, "no room \xff for it");
	vm_serve(fd);
}

/* Saves slowly, then stands still until it is told to stop; only then answers. */
static void vm_stands_still(int fd)
{
	static struct message m;

	vm_say(fd, MESSAGE_READY, 0, 0, "");
	vm_next(fd, &m);
	for (unsigned i = 0; i < 10; i++) {
		usleep(100000);
		if (write(m.fds[1], "slow", 4) != 4)
			_exit(8);
	}
	message_close_fds(&m);
	vm_next(fd, &m);
	vm_say(fd, MESSAGE_SNAPSHOT_DONE, 0, 0, "pause_us 1");
	vm_say(fd, MESSAGE_STOPPED, m.id, 0, "");
	vm_serve(fd);
}

/* Is asked to save and does not begin. */
static void vm_does_not_begin(int fd)
{
	static struct message m;

	vm_say(fd, MESSAGE_READY, 0, 0, "");
	vm_next(fd, &m);
	message_close_fds(&m);
	vm_serve(fd);
}

/* Asks for device `number`: the answer is that errno, or a stream to somebody who echoes `byte`. */
static void vm_connect(int fd, uint64_t number, uint32_t port, uint32_t error, char byte)
{
	static struct message m;
	const uint64_t id = number << DEVICE_ASK_BITS | 71;
	char echo;

	vm_say(fd, MESSAGE_CONNECT, id, port, "");
	vm_next(fd, &m);
	if (m.type != MESSAGE_DEVICE_ANSWER || m.id != id || m.value != error ||
	    m.fd_count != !error)
		_exit(6);
	if (!error && (fcntl(m.fds[0], F_SETFL, 0) < 0 || write(m.fds[0], &byte, 1) != 1 ||
		       read(m.fds[0], &echo, 1) != 1 || echo != byte))
		_exit(7);
	message_close_fds(&m);
}

/* Asks for connections that there are, and for some that there are not. */
static void vm_connects(int fd)
{
	vm_connect(fd, 0, 5000, 0, 'v');
	vm_connect(fd, 0, 5001, ENOENT, 0);
	vm_connect(fd, 1, 5000, ECONNREFUSED, 0);
	vm_connect(fd, 2, 5000, 0, 'o');
	vm_connect(fd, 3, 5000, ECONNREFUSED, 0);
	vm_connect(fd, 0xffff, 5000, ECONNREFUSED, 0);
	vm_end_with(fd, VM_END_POWEROFF, 0, "connected");
}

/* --- Tests --- */

static void test_snapshot(void **state)
{
	struct fixture *f = *state;
	char path[128], text[8] = "";
	int fd;

	supervisor_start(f, vm_plain);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "return", "{}");
	qmp_client_wait_status(f, "{\"execute\": \"query-migrate\"}", "\"pause-us\":2345");
	snprintf(path, sizeof(path), "%s/memory", f->snapshot);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, 7), 6);
	close(fd);
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "error", f->snapshot);
	qmp_client_migrate(f, "relative");
	qmp_client_expect(f, "error", "absolute");
	qmp_client_migrate(f, "/proc/none/there");
	qmp_client_expect(f, "error", "/proc/none/there");
	qmp_client_say(f,
		       "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"tcp:localhost:1\"}}");
	qmp_client_expect(f, "error", "file:DIR");
	/* A refused snapshot leaves what is known of the last one. */
	qmp_client_say(f, "{\"execute\": \"query-migrate\"}");
	qmp_client_expect(f, "return", "completed");
}

static size_t read_file(const struct fixture *f, const char *name, void *data, size_t size)
{
	char path[128];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->snapshot, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = read(fd, data, size);
	close(fd);
	assert_true(len >= 0);
	return (size_t)len;
}

/* The VM process is told what `config` is known by, however long that is. */
static void test_snapshot_long_config(void **state)
{
	static char text[2 * MESSAGE_TEXT_MAX];
	struct snapshot_config told, wanted;
	struct fixture *f = *state;
	size_t len;

	f->long_paths = true;
	supervisor_start(f, vm_plain);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "return", "{}");
	qmp_client_wait_status(f, "{\"execute\": \"query-migrate\"}", "completed");
	len = read_file(f, "config", text, sizeof(text));
	assert_in_range(len, MESSAGE_TEXT_MAX + 1, sizeof(text) - 1);
	wanted = snapshot_config_of(text, len);
	assert_int_equal(read_file(f, "state", &told, sizeof(told)), sizeof(told));
	assert_int_equal(told.len, len);
	assert_true(told.checksum == wanted.checksum);
}

static void test_snapshot_fails(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_cannot_save);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "return", "{}");
	qmp_client_wait_status(f, "{\"execute\": \"query-migrate\"}",
			       "\"failed\",\"error-desc\":\"no room ? for it\"");
	assert_int_equal(access(f->snapshot, F_OK), -1);
	qmp_client_say(f, "{\"execute\": \"query-status\"}");
	qmp_client_expect(f, "return", "\"running\",\"running\":true");
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "return", "{}");
	qmp_client_wait_status(f, "{\"execute\": \"query-migrate\"}", "completed");
}

static void test_vm_dies_saving(void **state)
{
	struct fixture *f = *state;
	char tmp[128];

	supervisor_start(f, vm_dies_saving);
	qmp_client_begin(f);
	qmp_client_migrate(f, f->snapshot);
	supervisor_expect_end(f, 125, "killed by signal 9");
	snprintf(tmp, sizeof(tmp), "%s.tmp", f->snapshot);
	assert_int_equal(access(f->snapshot, F_OK), -1);
	assert_int_equal(access(tmp, F_OK), -1);
}

/* Somebody comes to PATH_5000 and has `byte` echoed. */
static void echo_once(int listener, char byte)
{
	char got = 0;
	int fd;

	assert_int_equal(poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 20000), 1);
	fd = accept(listener, NULL, NULL);
	assert_int_equal(read(fd, &got, 1), 1);
	assert_int_equal(got, byte);
	assert_int_equal(write(fd, &got, 1), 1);
	close(fd);
	close(listener);
}

/* Each device that asks is answered by what it was told itself, by its number in the machine. */
static void test_guest_connects(void **state)
{
	struct fixture *f = *state;
	char path[128];
	int vsock, other;

	snprintf(path, sizeof(path), "%s_5000", f->vsock);
	vsock = unix_path_listen(path);
	snprintf(path, sizeof(path), "%s_5000", f->other);
	other = unix_path_listen(path);
	assert_true(vsock >= 0 && other >= 0);
	supervisor_start(f, vm_connects);
	echo_once(vsock, 'v');
	echo_once(other, 'o');
	supervisor_expect_end(f, 0, "connected");
}

/* The command as main calls it. */
static int command_snapshot(const char *control, const char *dir, unsigned ready_timeout_s,
			    bool now)
{
	const struct options options = { .args = { control, dir },
					 .ready_timeout_ms = ready_timeout_s * 1000,
					 .now = now };

	return snapshot_command(&options);
}

static void test_snapshot_command(void **state)
{
	struct fixture *f = *state;
	char other[256];

	assert_int_equal(command_snapshot(f->control, f->snapshot, 1, false), 1);
	assert_non_null(strstr(error_text(), f->control));
	supervisor_start(f, vm_plain);
	close(qmp_client_open(f));
	assert_int_equal(command_snapshot(f->control, f->snapshot, 10, false), 0);
	assert_int_equal(access(f->snapshot, F_OK), 0);
	assert_int_equal(command_snapshot(f->control, f->snapshot, 10, false), 2);
	snprintf(other, sizeof(other), "%s/none/there", f->dir);
	assert_int_equal(command_snapshot(f->control, other, 10, false), 1);
	assert_non_null(strstr(error_text(), other));
	snprintf(other, sizeof(other), "%s.tmp/", f->snapshot);
	assert_int_equal(command_snapshot(f->control, other, 10, false), 2);
	assert_non_null(strstr(error_text(), "snapshot.tmp/: ends in .tmp"));
}

static void test_snapshot_command_not_ready(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_not_ready);
	close(qmp_client_open(f));
	assert_int_equal(command_snapshot(f->control, f->snapshot, 1, false), 1);
	assert_non_null(strstr(error_text(), "READY within 1 s"));
	assert_int_equal(access(f->snapshot, F_OK), -1);
	assert_int_equal(command_snapshot(f->control, f->snapshot, 1, true), 0);
	assert_int_equal(access(f->snapshot, F_OK), 0);
}

/* The time that the user names, not the supervisor's own. */
static void test_snapshot_command_and_no_begin(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_does_not_begin);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	assert_int_equal(command_snapshot(f->control, f->snapshot, 1, true), 1);
	assert_non_null(strstr(error_text(), "not being saved after 1 s"));
	assert_int_equal(access(f->snapshot, F_OK), -1);
}

static void test_snapshot_command_and_silence(void **state)
{
	struct fixture *f = *state;
	uint64_t start_us;
	char tmp[128];

	hurried = true;
	supervisor_start(f, vm_stands_still);
	hurried = false;
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	alarm(20);
	start_us = monotonic_us();
	assert_int_equal(command_snapshot(f->control, f->snapshot, 10, false), 1);
	alarm(0);
	/* As long as it saves it is waited for. */
	assert_true(monotonic_us() - start_us > 1000000);
	assert_non_null(strstr(error_text(), "saved nothing for 30 s"));
	snprintf(tmp, sizeof(tmp), "%s.tmp", f->snapshot);
	assert_int_equal(access(tmp, F_OK), -1);
	/* Its answer would be taken for that of the next. */
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "error", "has not answered since the last snapshot");
	qmp_client_say(f, "{\"execute\": \"stop\"}");
	qmp_client_expect(f, "event", "STOP");
	qmp_client_expect(f, "return", "{}");
	assert_int_equal(access(f->snapshot, F_OK), -1);
	qmp_client_say(f, "{\"execute\": \"query-migrate\"}");
	qmp_client_expect(f, "return", "failed");
	qmp_client_migrate(f, f->snapshot);
	qmp_client_expect(f, "return", "{}");
	qmp_client_wait_status(f, "{\"execute\": \"query-migrate\"}", "completed");
	assert_int_equal(access(f->snapshot, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, supervisor_setup, supervisor_teardown)
		TEST(test_snapshot),
		TEST(test_snapshot_long_config),
		TEST(test_snapshot_fails),
		TEST(test_vm_dies_saving),
		TEST(test_guest_connects),
		TEST(test_snapshot_command),
		TEST(test_snapshot_command_not_ready),
		TEST(test_snapshot_command_and_no_begin),
		TEST(test_snapshot_command_and_silence),
	};

	return cmocka_run_group_tests_name("supervisor_snapshot", tests, NULL, NULL);
}
