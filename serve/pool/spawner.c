/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's side of the spawner (serve/pool/spawner.h): its life, orders and news.
 */
#include "serve/pool/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/pool/spawner_process.h"

static void spawner_event(void *opaque, uint32_t events)
{
	struct spawner *s = opaque;
	struct message m;
	int ret;

	(void)events;
	while ((ret = message_receive(s->fd, &m)) == 1) {
		if (m.type == MESSAGE_DEAD)
			s->events->dead(s->events->opaque, m.id, (int)m.value);
		message_close_fds(&m);
		if (!s->watch)
			return;
	}
	if (ret == -EAGAIN)
		return;
	loop_remove(s->loop, s->watch);
	s->watch = NULL;
	s->events->gone(s->events->opaque);
}

/*
 * In the child, where only what is allowed after fork(2) may be called. Another program, though the same
 * file: what the front has in memory, all functions' environments and whatever requests left there, must
 * not be in every shell.
 */
static void spawner_exec(int fd, char *parent)
{
	char *argv[] = { (char *)(uintptr_t)SPAWNER_NAME, parent, NULL }, *envp[] = { NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd == SPAWNER_FD ? fcntl(fd, F_SETFD, 0) >= 0 : dup2(fd, SPAWNER_FD) >= 0)
		execve("/proc/self/exe", argv, envp);
	_exit(1);
}

int spawner_start(struct spawner *s, struct loop *loop, const struct spawner_events *events)
{
	char parent[16];
	int pair[2];

	*s = (struct spawner){ .loop = loop, .events = events, .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return failf(errno, "cannot make a socket pair: %s", strerror(errno));
	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	s->pid = fork();
	if (s->pid == 0)
		spawner_exec(pair[1], parent);
	close(pair[1]);
	s->fd = pair[0];
	if (s->pid < 0) {
		int err = errno;

		s->pid = 0;
		spawner_stop(s);
		return failf(err, "cannot fork the spawner: %s", strerror(err));
	}
	s->watch = loop_add(loop, s->fd, EPOLLIN, spawner_event, s);
	if (s->watch)
		return 0;
	spawner_stop(s);
	return -ENOMEM;
}

void spawner_stop(struct spawner *s)
{
	if (s->watch)
		loop_remove(s->loop, s->watch);
	s->watch = NULL;
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	s->pid = 0;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* --- Orders --- */

int spawner_template(struct spawner *s, uint32_t template, const struct sealed *sealed,
		     const char *name)
{
	struct message m;

	message_init(&m, MESSAGE_TEMPLATE);
	m.id = template;
	m.fd_count = 2;
	m.fds[0] = sealed->memory_fd;
	m.fds[1] = sealed->parts_fd;
	message_set_text(&m, name);
	return message_try(s->fd, &m);
}

int spawner_forget(struct spawner *s, uint32_t template)
{
	struct message m;

	message_init(&m, MESSAGE_FORGET);
	m.id = template;
	return message_try(s->fd, &m);
}

int spawner_spawn(struct spawner *s, uint64_t shell, uint32_t template, enum shell_kind kind,
		  int fd)
{
	struct message m;

	message_init(&m, MESSAGE_SPAWN);
	m.id = shell;
	m.value = template;
	m.fd_count = 1;
	m.fds[0] = fd;
	m.text[0] = (char)kind;
	m.text_len = 1;
	return message_try(s->fd, &m);
}

int spawner_kill(struct spawner *s, uint64_t shell)
{
	struct message m;

	message_init(&m, MESSAGE_KILL);
	m.id = shell;
	return message_try(s->fd, &m);
}
