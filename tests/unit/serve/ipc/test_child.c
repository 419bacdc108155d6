/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes (serve/ipc/child.c): what they have and what they do not, that they end with their
 * parent, and that a failure leaves nothing.
 *
 * wrap: fork getppid
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/child.h"
#include "tests/unit/descriptors.h"

static bool no_process;
static bool parent_gone; /* in a child, before it asks */

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
	if (!no_process)
		return __real_fork();
	errno = EAGAIN;
	return -1;
}

pid_t __real_getppid(void);
pid_t __wrap_getppid(void);
pid_t __wrap_getppid(void)
{
	return parent_gone ? 1 : __real_getppid();
}

static int answer_main(void *opaque, int fd)
{
	const char *word = opaque;

	return send(fd, word, strlen(word), MSG_NOSIGNAL) > 0 ? 7 : 8;
}

/* Its end of the pair, its argument and its exit status. */
static void test_talks(void **state)
{
	char text[16] = "";
	struct child child;
	int status;

	(void)state;
	assert_int_equal(child_start(&child, answer_main, (void *)(uintptr_t) "hello"), 0);
	assert_true(child.pid > 0);
	assert_int_equal(fcntl(child.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(recv(child.fd, text, sizeof(text), 0), 5);
	assert_string_equal(text, "hello");
	/* Nobody else has its end: it reads as closed once the child is gone. */
	assert_int_equal(recv(child.fd, text, sizeof(text), 0), 0);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	close(child.fd);
}

/* How long the parent's end is open; the alarm is for a child that never hears of its closing. */
static int listen_main(void *opaque, int fd)
{
	char byte;

	(void)opaque;
	alarm(10);
	return recv(fd, &byte, 1, 0) == 0 ? 9 : 8;
}

static void test_hears_the_end(void **state)
{
	struct child child;
	int status;

	(void)state;
	assert_int_equal(child_start(&child, listen_main, NULL), 0);
	close(child.fd);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 9);
}

/* Its parent ended between fork(2) and prctl(2): no signal will come, so it does not begin. */
static void test_parent_gone(void **state)
{
	struct child child;
	char byte;
	int status;

	(void)state;
	parent_gone = true;
	assert_int_equal(child_start(&child, answer_main, (void *)(uintptr_t) "hello"), 0);
	parent_gone = false;
	assert_int_equal(recv(child.fd, &byte, 1, 0), 0);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 125);
	close(child.fd);
}

static int wait_main(void *opaque, int fd)
{
	(void)opaque;
	(void)fd;
	pause();
	return 0;
}

static void test_stop(void **state)
{
	unsigned before = descriptors_open();
	struct child child = { 0 };

	(void)state;
	child_stop(&child); /* none: descriptor 0 stays */
	assert_return_code(fcntl(0, F_GETFD), errno);
	assert_int_equal(child_start(&child, wait_main, NULL), 0);
	pid_t pid = child.pid;
	child_stop(&child);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(child.pid, 0);
	assert_int_equal(child.fd, -1);
	assert_int_equal(descriptors_open(), before);
}

static void test_no_process(void **state)
{
	unsigned before = descriptors_open();
	struct child child;

	(void)state;
	no_process = true;
	assert_int_equal(child_start(&child, wait_main, NULL), -EAGAIN);
	no_process = false;
	assert_non_null(strstr(error_text(), "cannot fork: "));
	assert_int_equal(child.pid, 0);
	assert_int_equal(descriptors_open(), before);
}

/* A child that has a child, and ends when told so. */
static int middle_main(void *opaque, int fd)
{
	struct child inner;
	char byte = 0;

	(void)opaque;
	if (child_start(&inner, wait_main, NULL) < 0)
		return 1;
	/* The other side of this pair, kept open by inner alone, tells when that is gone. */
	send(fd, &inner.pid, sizeof(inner.pid), 0);
	recv(fd, &byte, 1, 0);
	return 0;
}

static void test_ends_with_its_parent(void **state)
{
	struct pollfd gone;
	struct child middle;
	char byte = 1;
	pid_t inner;

	(void)state;
	assert_int_equal(child_start(&middle, middle_main, NULL), 0);
	assert_int_equal(recv(middle.fd, &inner, sizeof(inner), 0), sizeof(inner));
	assert_int_equal(kill(inner, 0), 0);
	send(middle.fd, &byte, 1, 0);
	waitpid(middle.pid, NULL, 0);
	/* inner has inherited middle's end of the pair: it is closed when inner is dead. */
	gone = (struct pollfd){ .fd = middle.fd, .events = POLLIN };
	assert_int_equal(poll(&gone, 1, 10000), 1);
	assert_true(gone.revents & POLLHUP);
	close(middle.fd);
}

static int keep_main(void *opaque, int fd)
{
	const int *others = opaque;
	int place = STDERR_FILENO + 1, one, two;

	/* Each in the place of the other. */
	one = dup3(fd, place + 1, 0);
	two = dup3(others[1], place, 0);
	if (one < 0 || two < 0 || child_keep((const int[]){ one, two }, 2, place) < 0)
		return 1;
	for (unsigned i = 0; i < 2; i++)
		if (others[i] > place + 1 && fcntl(others[i], F_GETFD) >= 0)
			return 2;
	if (!(fcntl(place, F_GETFD) & fcntl(place + 1, F_GETFD) & FD_CLOEXEC))
		return 3;
	return send(place, "k", 1, MSG_NOSIGNAL) == 1 ? 0 : 4;
}

/* The same where a filter like that of an older container knows no close_range(2). */
static int filtered_main(void *opaque, int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 5;
	return keep_main(opaque, fd);
}

static void keep(int (*child_main)(void *opaque, int fd))
{
	int others[2] = { dup(1), fcntl(1, F_DUPFD, 40) }, status;
	struct child child;
	char byte;

	assert_int_equal(child_start(&child, child_main, others), 0);
	assert_int_equal(recv(child.fd, &byte, 1, 0), 1);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_int_equal(status, 0);
	close(child.fd);
	close(others[0]);
	close(others[1]);
}

static void test_keep(void **state)
{
	(void)state;
	keep(keep_main);
	keep(filtered_main);
}

static int signal_main(void *opaque)
{
	int signal = 0;

	(void)opaque;
	prctl(PR_GET_PDEATHSIG, &signal);
	return signal;
}

static void test_death_signal(void **state)
{
	int status;
	pid_t pid = child_fork(SIGTERM, signal_main, NULL);

	(void)state;
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), SIGTERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talks),       cmocka_unit_test(test_hears_the_end),
		cmocka_unit_test(test_parent_gone), cmocka_unit_test(test_stop),
		cmocka_unit_test(test_no_process),  cmocka_unit_test(test_ends_with_its_parent),
		cmocka_unit_test(test_keep),        cmocka_unit_test(test_death_signal),
	};

	return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
