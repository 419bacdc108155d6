/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor over a fake VM process: clients, signals, the terminal, and what every way
 * for the VM process to end comes to.
 */
#include "serve/control/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "serve/control/vm_process.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/serve/control/supervisor_fixture.h"
#include "vmm.h"

/* --- Fake VM processes --- */

static void vm_exits_42(int fd)
{
	vm_end_with(fd, VM_END_DEBUG_EXIT, 42, "debug_exit: 42");
}

static void vm_crashes(int fd)
{
	(void)fd;
	signal(SIGSEGV, SIG_DFL); /* cmocka catches it */
	raise(SIGSEGV);
}

static void vm_breaks_filter(int fd)
{
	(void)fd;
	signal(SIGSYS, SIG_DFL); /* cmocka catches it */
	raise(SIGSYS);
}

static void vm_says_nothing(int fd)
{
	(void)fd;
}

/* As one whose memory is gone (arch/base/sigbus.h): no message, but all of what there is to say. */
static void vm_says_it_itself(int fd)
{
	(void)fd;
	notef("its backing file was cut short");
	_exit(STATUS_VIRGA);
}

static void vm_malformed(int fd)
{
	if (send(fd, "xyz", 3, 0) == 3)
		pause();
}

static void vm_unknown_message(int fd)
{
	vm_say(fd, 0x12345678, 0, 0, "");
	pause();
}

/* Asks for more connections than its socket takes answers, and reads none until the end. */
static void vm_reads_nothing(int fd)
{
	for (unsigned i = 0; i < 2000; i++)
		vm_say(fd, MESSAGE_CONNECT, i, 9, "");
	vm_end_with(fd, VM_END_POWEROFF, 0, "powered off");
}

/* Says how many descriptors it has. */
static void vm_counts_descriptors(int fd)
{
	vm_end_with(fd, VM_END_DEBUG_EXIT, descriptors_open(), "counted");
}

/* --- Tests --- */

static void test_stop_and_cont(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_plain);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	qmp_client_say(f, "{\"execute\": \"stop\"}{\"execute\": \"stop\"}");
	qmp_client_expect(f, "event", "STOP");
	qmp_client_expect(f, "return", "{}");
	qmp_client_expect(f, "return", "{}");
	qmp_client_say(f, "{\"execute\": \"query-status\"}");
	qmp_client_expect(f, "return", "\"paused\",\"running\":false");
	qmp_client_say(f, "{\"execute\": \"cont\"}{\"execute\": \"query-cpus-fast\"}");
	qmp_client_expect(f, "event", "RESUME");
	qmp_client_expect(f, "return", "{}");
	qmp_client_expect(f, "return", "\"thread-id\":22");
	qmp_client_say(f, "{\"execute\": \"query-name\"}");
	qmp_client_expect(f, "return", "fake");
	qmp_client_say(f, "{\"execute\": \"quit\"}");
	qmp_client_expect(f, "return", "{}");
	qmp_client_expect(f, "event", "SHUTDOWN");
	assert_null(qmp_client_next(f));
	supervisor_expect_end(f, 0, "virga: ended by 0??[2J\n");
}

static void test_sigterm(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_plain);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	kill(f->supervisor, SIGTERM);
	qmp_client_expect(f, "data", "\"guest\":false,\"reason\":\"host-signal\"");
	supervisor_expect_end(f, 0, "ended by 15");
}

static void test_ends(void **state)
{
	static const struct {
		void (*vm)(int fd);
		int status;
		const char *sentence;
	} ends[] = {
		{ vm_exits_42, 42, "virga: debug_exit: 42\n" },

		{ vm_crashes, 125, "killed by signal 11" },
		{ vm_breaks_filter, 125, "system call filter" },
		{ vm_says_nothing, 125, "status 77 and did not say why" },
		{ vm_malformed, 125, "malformed message" },
		{ vm_unknown_message, 125, "unknown type" },
		{ vm_reads_nothing, 0, "powered off" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		supervisor_start(f, ends[i].vm);
		supervisor_expect_end(f, ends[i].status, ends[i].sentence);
	}
}

/* What the VM process has said is all that is said. */
static void test_says_it_itself(void **state)
{
	struct fixture *f = *state;
	char text[512] = "";
	int log;

	supervisor_start(f, vm_says_it_itself);
	supervisor_expect_end(f, 125, "cut short");
	log = open(f->log, O_RDONLY | O_CLOEXEC);
	assert_true(read(log, text, sizeof(text) - 1) > 0);
	close(log);
	assert_null(strstr(text, "did not say why"));
}

/* None of them keeps one good client waiting. */
static void test_bad_clients(void **state)
{
	static const char flood[] = "{\"execute\": \"query-commands\"}\n";
	struct fixture *f = *state;
	int others[300];

	supervisor_start(f, vm_plain);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	for (unsigned i = 0; i < 300; i++)
		others[i] = qmp_client_open(f);
	for (unsigned i = 0; i < 300; i += 3)
		send(others[i], "garbage\n\xff\xfe{{{{\n", 15, MSG_DONTWAIT | MSG_NOSIGNAL);
	send(others[1], "{\"execute\": \"qmp_capabilities\"}", 31, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (unsigned i = 0; i < 100000; i++)
		if (send(others[1], flood, strlen(flood), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
	for (unsigned i = 0; i < 50; i++) {
		qmp_client_say(f, "{\"execute\": \"stop\"}{\"execute\": \"cont\"}");
		qmp_client_expect(f, "event", "STOP");
		qmp_client_expect(f, "return", "{}");
		qmp_client_expect(f, "event", "RESUME");
		qmp_client_expect(f, "return", "{}");
	}
	for (unsigned i = 0; i < 300; i++)
		close(others[i]);
	close(f->client);
	f->in_len = 0;
	for (unsigned i = 0; i < 100; i++) {
		f->client = qmp_client_open(f);
		qmp_client_expect(f, "QMP", "virga");
		close(f->client);
	}
	f->client = -1;
	kill(f->supervisor, SIGINT);
	supervisor_expect_end(f, 0, "ended by 2");
}

static void test_terminal(void **state)
{
	struct fixture *f = *state;
	struct termios before, during, after;
	int master, slave;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(slave, &before), 0);
	f->terminal = dup(slave);
	supervisor_start(f, vm_dies_saving);
	close(f->terminal);
	qmp_client_begin(f);
	qmp_client_wait_ready(f);
	assert_int_equal(tcgetattr(slave, &during), 0);
	assert_int_equal(during.c_lflag & (ICANON | ECHO | ISIG), 0);
	assert_int_equal(during.c_oflag, before.c_oflag);
	qmp_client_migrate(f, f->snapshot);
	supervisor_expect_end(f, 125, "killed by signal 9");
	assert_int_equal(tcgetattr(slave, &after), 0);
	assert_int_equal(before.c_iflag, after.c_iflag);
	assert_int_equal(before.c_lflag, after.c_lflag);
	assert_int_equal(before.c_cflag, after.c_cflag);
	assert_memory_equal(before.c_cc, after.c_cc, sizeof(before.c_cc));
	close(master);
	close(slave);
}

/* What the supervisor has open is not open in the VM process, but for its end and the test's log. */
static void test_descriptors(void **state)
{
	struct fixture *f = *state;

	supervisor_start(f, vm_counts_descriptors);
	supervisor_expect_end(f, (int)descriptors_open() + 2, "counted");
}

static int prelaunch_vm(void *opaque, int fd)
{
	(void)opaque;
	vm_plain(fd);
	return 0;
}

/* Before its start a machine can be looked at and told to go, and nothing else. */
static void test_prelaunch(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct config config = { .name = (char *)"early" };
	struct control_socket control;
	struct vm_process p;
	struct loop loop;
	uint64_t ticket;

	(void)state;
	for (unsigned start = 0; start < 2; start++) {
		loop_init(&loop);
		assert_int_equal(vm_process_init(&p, &loop, &control, &config, &config.devices), 0);
		assert_int_equal(socket_init(&control, &loop, -1, &p.view), 0);
		assert_int_equal(p.view.state, VIEW_PRELAUNCH);
		assert_string_equal(p.view.name, "early");
		for (enum view_request i = VIEW_STOP; i <= VIEW_SNAPSHOT; i++)
			if (i != VIEW_QUIT)
				assert_int_equal(p.view.request(&p, i, "file:/x", &ticket), -ESRCH);
		assert_non_null(strstr(error_text(), "has not been started"));
		if (start) {
			assert_int_equal(vm_process_start(&p, prelaunch_vm, NULL), 0);
			while (p.view.state == VIEW_PRELAUNCH)
				assert_true(loop_step(&loop, &lock, 20000) > 0);
			assert_int_equal(p.view.state, VIEW_RUNNING);
			assert_int_equal(p.view.request(&p, VIEW_QUIT, NULL, &ticket), 0);
			assert_int_equal(waitpid(p.child, NULL, 0), p.child);
			vm_process_dead(&p);
		} else {
			assert_int_equal(p.view.request(&p, VIEW_QUIT, NULL, &ticket), 0);
			assert_true(loop.stopping);
			assert_int_equal(p.status, 0);
		}
		assert_int_equal(p.view.state, VIEW_ENDED);
		vm_process_fini(&p);
		socket_fini(&control);
		loop_fini(&loop);
	}
}

static void test_listen(void **state)
{
	struct fixture *f = *state;
	char path[300];
	struct stat st;
	int fd = supervisor_listen(f->control), again;

	assert_true(fd >= 0);
	assert_int_equal(stat(f->control, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(supervisor_listen(f->control), -EADDRINUSE);
	close(fd);
	again = supervisor_listen(f->control);
	assert_true(again >= 0);
	close(again);
	close(open(f->log, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(supervisor_listen(f->log), -EEXIST);
	assert_int_equal(supervisor_listen("/proc/none/there"), -ENOENT);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(supervisor_listen(path), -ENAMETOOLONG);
	assert_int_equal(supervisor_listen(""), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, supervisor_setup, supervisor_teardown)
		TEST(test_says_it_itself), TEST(test_stop_and_cont), TEST(test_sigterm),
		TEST(test_ends),           TEST(test_bad_clients),   TEST(test_terminal),
		TEST(test_listen),         TEST(test_descriptors),   TEST(test_prelaunch),
	};

	return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
