/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawner's process (serve/pool/spawner.h): one loop over the front's orders and the ends of
 * shells. A shell is forked from here because this process is small: what fork(2) costs grows with
 * what is mapped.
 */
#include "serve/pool/spawner_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/sealed.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "serve/machine/shell.h"
#include "vmm.h"

#define SPAWNER_OOM_ADJ "500"

struct spawner_template {
	struct spawner_template *next;
	uint32_t id;
	struct sealed sealed; /* owned */
	char name[64];        /* for sentences */
};

struct spawner_child {
	uint64_t shell;
	pid_t pid;
};

struct spawner_process {
	int signal_fd;
	struct spawner_template *templates;
	struct spawner_child *children; /* in no order */
	size_t count;
	size_t size;
	struct message message;
};

/* --- Templates --- */

static struct spawner_template **spawner_find(struct spawner_process *p, uint32_t id)
{
	struct spawner_template **at = &p->templates;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static void spawner_take_template(struct spawner_process *p, struct message *m)
{
	struct spawner_template *t = calloc(1, sizeof(*t));

	if (!t || m->fd_count != 2) {
		free(t);
		return;
	}
	*t = (struct spawner_template){
		.next = p->templates,
		.id = (uint32_t)m->id,
		.sealed = { .memory_fd = m->fds[0], .parts_fd = m->fds[1] },
	};
	snprintf(t->name, sizeof(t->name), "%.60s", m->text);
	m->fd_count = 0;
	p->templates = t;
}

static void spawner_drop_template(struct spawner_process *p, uint32_t id)
{
	struct spawner_template **at = spawner_find(p, id), *t = *at;

	if (!t)
		return;
	*at = t->next;
	sealed_close(&t->sealed);
	free(t);
}

/* --- In a shell --- */

/* Only the descriptors that a shell needs: socket, memory, parts. */
static int spawner_keep(int fd, struct sealed *sealed)
{
	const int fds[] = { fd, sealed->memory_fd, sealed->parts_fd };
	int ret = child_keep(fds, 3, CHILD_FD);

	*sealed = (struct sealed){ .memory_fd = CHILD_FD + 1, .parts_fd = CHILD_FD + 2 };
	return ret;
}

/* A shell that is to be made. */
struct spawner_shell {
	const struct spawner_template *template;
	enum shell_kind kind;
	int fd;
};

static int spawner_run_shell(void *opaque)
{
	const struct spawner_shell *shell = opaque;
	const struct spawner_template *t = shell->template;
	struct sealed sealed = t->sealed;
	struct snapshot snapshot;
	struct shell_options options = { .snapshot = &snapshot,
					 .kind = shell->kind,
					 .fd = CHILD_FD };

	prctl(PR_SET_NAME, "virga-shell");
	if (spawner_keep(shell->fd, &sealed) < 0 || sealed_open(&sealed, t->name, &snapshot) < 0) {
		notef("%s: %s", t->name, error_text());
		return 0;
	}
	sealed_close(&sealed);
	shell_main(&options);
	return 0;
}

/* --- Children --- */

static void spawner_dead(struct spawner_process *p, uint64_t shell, int status)
{
	message_init(&p->message, MESSAGE_DEAD);
	p->message.id = shell;
	p->message.value = (uint32_t)status;
	message_send(CHILD_FD, &p->message);
}

static bool spawner_grow(struct spawner_process *p)
{
	size_t size = p->size ? 2 * p->size : 64;
	struct spawner_child *children;

	if (p->count < p->size)
		return true;
	children = realloc(p->children, size * sizeof(*children));
	if (!children)
		return false;
	p->children = children;
	p->size = size;
	return true;
}

/* 0 or an errno. */
static int spawner_fork(struct spawner_process *p, const struct message *m)
{
	const struct spawner_template *t = *spawner_find(p, m->value);
	struct spawner_shell shell = { .template = t };
	pid_t pid;

	if (!t || m->fd_count != 1 || m->text_len != 1)
		return EPROTO;
	shell.kind = (enum shell_kind)m->text[0];
	shell.fd = m->fds[0];
	if (!spawner_grow(p))
		return ENOMEM;
	pid = child_fork(SIGKILL, spawner_run_shell, &shell);
	if (pid < 0)
		return -pid;
	p->children[p->count++] = (struct spawner_child){ .shell = m->id, .pid = pid };
	return 0;
}

/* A shell that cannot be forked is one that is dead at once. */
static void spawner_make(struct spawner_process *p, struct message *m)
{
	uint64_t shell = m->id;
	int err = spawner_fork(p, m);

	message_close_fds(m);
	if (err) {
		notef("cannot fork a shell: %s", strerror(err));
		spawner_dead(p, shell, 0);
	}
}

static void spawner_signal(const struct spawner_process *p, uint64_t shell, int signal)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->children[i].shell == shell)
			kill(p->children[i].pid, signal);
}

static void spawner_reap(struct spawner_process *p)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(p->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < p->count; i++) {
			if (p->children[i].pid != pid)
				continue;
			spawner_dead(p, p->children[i].shell, status);
			p->children[i] = p->children[--p->count];
			break;
		}
	}
}

/* --- The process --- */

static void spawner_order(struct spawner_process *p, struct message *m)
{
	switch (m->type) {
	case MESSAGE_TEMPLATE:
		spawner_take_template(p, m);
		break;
	case MESSAGE_FORGET:
		spawner_drop_template(p, (uint32_t)m->id);
		break;
	case MESSAGE_SPAWN:
		spawner_make(p, m);
		break;
	case MESSAGE_KILL:
		spawner_signal(p, m->id, SIGKILL);
		break;
	default:
		break;
	}
	message_close_fds(m);
}

/* Takes what is there. False: the front is gone. */
static bool spawner_orders(struct spawner_process *p)
{
	int ret;

	while ((ret = message_receive(CHILD_FD, &p->message)) == 1)
		spawner_order(p, &p->message);
	return ret == -EAGAIN;
}

/* A shell goes before the front does: advice. */
static void spawner_adjust_oom(void)
{
	int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (oom < 0)
		return;
	n = write(oom, SPAWNER_OOM_ADJ, strlen(SPAWNER_OOM_ADJ));
	(void)n;
	close(oom);
}

static int spawner_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? failf(errno, "the spawner cannot watch signals: %s", strerror(errno)) : fd;
}

int spawner_main(const char *parent)
{
	struct spawner_process p = { .signal_fd = -1 };
	int ret = child_begin(SPAWNER_NAME, parent);

	if (ret == 0)
		ret = p.signal_fd = spawner_signals();
	if (ret < 0) {
		notef("%s", error_text());
		return ret == -EINVAL ? STATUS_BAD_INPUT : STATUS_HOST;
	}
	spawner_adjust_oom();
	message_init(&p.message, MESSAGE_SPAWNER);
	message_send(CHILD_FD, &p.message);
	for (;;) {
		struct pollfd fds[] = { { .fd = CHILD_FD, .events = POLLIN },
					{ .fd = p.signal_fd, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return STATUS_HOST;
		if (fds[0].revents && !spawner_orders(&p))
			return 0;
		if (fds[1].revents)
			spawner_reap(&p);
	}
}
