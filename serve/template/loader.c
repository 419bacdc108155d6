/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader's two sides (serve/template/loader.h).
 */
#include "serve/template/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/template/builtin.h"

#define LOADER_FD (STDERR_FILENO + 1) /* the socket, in the child */

/* --- In the child --- */

static int loader_read(const char *path, struct sealed *sealed)
{
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, path);

	if (ret < 0)
		return ret;
	ret = sealed_make(sealed, &snapshot);
	snapshot_close(&snapshot);
	return ret;
}

/* Nothing of the front is kept: clients and shells are to see when it closes what they have. */
static int loader_settle(int fd)
{
	if ((fd != LOADER_FD && dup2(fd, LOADER_FD) < 0) ||
	    syscall(SYS_close_range, LOADER_FD + 1, ~0u, 0) < 0)
		return failf(errno, "cannot close descriptors (Linux 5.9 or later can): %s",
			     strerror(errno));
	return fcntl(LOADER_FD, F_SETFD, FD_CLOEXEC);
}

static int loader_main(const struct loader_source *source, int fd, pid_t parent)
{
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	struct message m;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 1;
	prctl(PR_SET_NAME, "virga-loader");
	ret = loader_settle(fd);
	if (ret == 0)
		ret = source->path ? loader_read(source->path, &sealed)
				   : builtin_make(&sealed, source->memory);
	message_init(&m, MESSAGE_LOADED);
	if (ret < 0) {
		m.value = (uint32_t)-ret;
		message_set_text(&m, error_text());
	} else {
		m.fd_count = 2;
		m.fds[0] = sealed.memory_fd;
		m.fds[1] = sealed.parts_fd;
	}
	message_send(LOADER_FD, &m);
	return 0;
}

/* --- In the front --- */

void loader_stop(struct loader *l)
{
	loop_remove(l->loop, l->watch);
	l->watch = NULL;
	if (l->pid > 0) {
		close(l->fd);
		kill(l->pid, SIGKILL);
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	l->pid = 0;
}

static void loader_event(void *opaque, uint32_t events)
{
	struct loader *l = opaque;
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	struct message m;
	int ret = message_receive(l->fd, &m);

	(void)events;
	if (ret == -EAGAIN)
		return;
	loader_stop(l);
	if (ret == 1 && m.type == MESSAGE_LOADED && m.fd_count == 2) {
		sealed = (struct sealed){ .memory_fd = m.fds[0], .parts_fd = m.fds[1] };
		m.fd_count = 0;
		l->done(l->opaque, &sealed, NULL);
		sealed_close(&sealed);
	} else {
		l->done(l->opaque, NULL,
			ret == 1 && m.text_len ? m.text : "the process that loads it ended");
	}
	if (ret == 1)
		message_close_fds(&m);
}

int loader_start(struct loader *l, const struct loader_source *source)
{
	const pid_t parent = getpid();
	int pair[2];

	l->pid = 0;
	l->watch = NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return failf(errno, "cannot make a socket pair: %s", strerror(errno));
	l->pid = fork();
	if (l->pid == 0)
		_exit(loader_main(source, pair[1], parent));
	close(pair[1]);
	l->fd = pair[0];
	if (l->pid < 0) {
		int err = errno;

		close(l->fd);
		l->pid = 0;
		return failf(err, "cannot fork: %s", strerror(err));
	}
	l->watch = loop_add(l->loop, l->fd, EPOLLIN, loader_event, l);
	if (l->watch)
		return 0;
	loader_stop(l);
	return -ENOMEM;
}
