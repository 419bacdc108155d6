/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See serve/ipc/child.h.
 */
#include "serve/ipc/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"
#include "vmm.h"

#define CHILD_KEEP_MAX 4

pid_t child_fork(int death_signal, int (*main)(void *opaque), void *opaque)
{
	const pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		return failf(errno, "cannot fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, death_signal);
	/* Nobody is left to look at the status of one whose parent was gone before it could ask. */
	_exit(getppid() == parent ? main(opaque) : STATUS_VIRGA);
}

/* What child_fork() runs for child_start(). */
struct child_start {
	int (*main)(void *opaque, int fd);
	void *opaque;
	int pair[2];
};

static int child_main(void *opaque)
{
	const struct child_start *start = opaque;

	close(start->pair[0]);
	return start->main(start->opaque, start->pair[1]);
}

int child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque)
{
	struct child_start start = { .main = main, .opaque = opaque };
	pid_t pid;

	*child = (struct child){ .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, start.pair) < 0)
		return failf(errno, "no descriptor left (ulimit -n): %s", strerror(errno));
	pid = child_fork(SIGKILL, child_main, &start);
	close(start.pair[1]);
	if (pid < 0) {
		close(start.pair[0]);
		return pid;
	}
	*child = (struct child){ .pid = pid, .fd = start.pair[0] };
	return 0;
}

int child_close_from(int first)
{
	int ret = io_close_from(first);

	if (ret < 0)
		return failf(-ret, "cannot close descriptors by close_range or /proc: %s",
			     strerror(-ret));
	return 0;
}

/* fds, out of the way of their final places, then there. */
static int child_move(const int *fds, unsigned count, int place)
{
	int high[CHILD_KEEP_MAX], end = place + (int)count;

	for (unsigned i = 0; i < count; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, end);
		if (high[i] < 0)
			return -errno;
	}
	for (unsigned i = 0; i < count; i++)
		if (dup3(high[i], place + (int)i, O_CLOEXEC) < 0)
			return -errno;
	return 0;
}

int child_keep(const int *fds, unsigned count, int place)
{
	int ret = child_move(fds, count, place);

	if (ret < 0)
		return failf(-ret, "no descriptor left: %s", strerror(-ret));
	return child_close_from(place + (int)count);
}

int child_exec(int fd, char *const argv[])
{
	char *envp[] = { NULL };

	if (fd == CHILD_FD ? fcntl(fd, F_SETFD, 0) >= 0 : dup2(fd, CHILD_FD) >= 0)
		execve(CHILD_FILE, argv, envp);
	return 1;
}

int child_begin(const char *name, const char *parent)
{
	struct stat st;
	int null;

	if (fstat(CHILD_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		return failf(EINVAL, "'%s' is a part of 'virga serve', which starts it", name);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != atoi(parent))
		return failf(ESRCH, "%s: what has started it is gone", name);
	prctl(PR_SET_NAME, name);
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    fcntl(CHILD_FD, F_SETFD, FD_CLOEXEC) < 0)
		return failf(errno, "%s: /dev/null: %s", name, strerror(errno));
	return child_close_from(CHILD_FD + 1);
}

void child_stop(struct child *child)
{
	if (child->pid <= 0)
		return;
	close(child->fd);
	kill(child->pid, SIGKILL);
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		;
	*child = (struct child){ .fd = -1 };
}
