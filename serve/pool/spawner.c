/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's side of the spawner (serve/pool/spawner.h): its life, orders and news.
 */
#include "serve/pool/spawner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/pool/spawner_process.h"

static void spawner_hear(struct spawner *s, const struct message *m)
{
	s->ready = m->value == 0;
	s->err = (int)m->value;
}

static void spawner_event(void *opaque, uint32_t events)
{
	struct spawner *s = opaque;
	struct message m;
	int ret;

	(void)events;
	while ((ret = message_receive(s->child.fd, &m)) == 1) {
		if (m.type == MESSAGE_DEAD)
			s->events->dead(s->events->opaque, m.id, (int)m.value);
		if (m.type == MESSAGE_SPAWNER)
			spawner_hear(s, &m);
		if (m.type == MESSAGE_SPAWNER && s->ready)
			s->events->ready(s->events->opaque);
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

static int spawner_exec(void *opaque, int fd)
{
	char *argv[] = { (char *)(uintptr_t)SPAWNER_NAME, opaque, NULL };
	struct message m;
	int ret = child_exec(fd, argv);

	message_init(&m, MESSAGE_SPAWNER);
	m.value = (uint32_t)errno;
	message_try(fd, &m);
	return ret;
}

int spawner_start(struct spawner *s, struct loop *loop, const struct spawner_events *events)
{
	char parent[16];
	int ret;

	*s = (struct spawner){ .loop = loop, .events = events, .child.fd = -1 };
	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	ret = child_start(&s->child, spawner_exec, parent);
	if (ret < 0)
		return failf(-ret, "the spawner: %s", error_text());
	s->watch = loop_add(loop, s->child.fd, EPOLLIN, spawner_event, s);
	if (s->watch)
		return 0;
	spawner_stop(s);
	return -ENOMEM;
}

int spawner_wait(struct spawner *s)
{
	struct message m;

	while (!s->ready && !s->err && message_wait(s->child.fd, &m) == 1) {
		if (m.type == MESSAGE_SPAWNER)
			spawner_hear(s, &m);
		message_close_fds(&m);
	}
	if (s->err)
		return failf(s->err, "this program cannot execute itself (" CHILD_FILE ": %s)%s",
			     strerror(s->err), s->err == ENOENT ? "; mount /proc" : "");
	return s->ready ? 0 : failf(ECHILD, "the process that makes machines ended at once");
}

void spawner_stop(struct spawner *s)
{
	if (s->watch)
		loop_remove(s->loop, s->watch);
	s->watch = NULL;
	child_stop(&s->child);
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
	return message_try(s->child.fd, &m);
}

int spawner_forget(struct spawner *s, uint32_t template)
{
	struct message m;

	message_init(&m, MESSAGE_FORGET);
	m.id = template;
	return message_try(s->child.fd, &m);
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
	return message_try(s->child.fd, &m);
}

int spawner_kill(struct spawner *s, uint64_t shell)
{
	struct message m;

	message_init(&m, MESSAGE_KILL);
	m.id = shell;
	return message_try(s->child.fd, &m);
}
