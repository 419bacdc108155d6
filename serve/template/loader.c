/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's side of the loader (serve/template/loader.h).
 */
#include "serve/template/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/ipc/message.h"
#include "serve/template/loader_process.h"

#define LOADER_BASE_S  60u           /* so long each may take, */
#define LOADER_SLOWEST (16ull << 20) /* and a second for each so many bytes on its disk */

static int loader_exec(void *opaque, int fd)
{
	return child_exec(fd, opaque);
}

/* What it may take from now on, with so many bytes on its disk. */
static void loader_limit(struct loader *l, uint64_t bytes)
{
	l->limit_s = LOADER_BASE_S + bytes / LOADER_SLOWEST;
	timer_set(l->timers, &l->timer, monotonic_us() + l->limit_s * 1000000u);
}

void loader_stop(struct loader *l)
{
	timer_clear(l->timers, &l->timer);
	loop_remove(l->loop, l->watch);
	l->watch = NULL;
	child_stop(&l->child);
}

static void loader_event(void *opaque, uint32_t events)
{
	struct loader *l = opaque;
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	struct message m;
	int ret = message_receive(l->child.fd, &m);

	(void)events;
	if (ret == -EAGAIN)
		return;
	if (ret == 1 && m.type == MESSAGE_LOADING) {
		loader_limit(l, m.id);
		message_close_fds(&m);
		return;
	}
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

static void loader_late(void *opaque)
{
	struct loader *l = opaque;
	char text[128];

	snprintf(text, sizeof(text), "it was not loaded within %" PRIu64 " s: is its disk slow?",
		 l->limit_s);
	loader_stop(l);
	l->done(l->opaque, NULL, text);
}

int loader_start(struct loader *l, const struct loader_source *source)
{
	char parent[16], memory[24];
	char *argv[] = { (char *)(uintptr_t)LOADER_NAME, parent, memory,
			 (char *)(uintptr_t)source->path, NULL };
	int ret;

	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	snprintf(memory, sizeof(memory), "%" PRIu64, source->memory);
	l->watch = NULL;
	ret = child_start(&l->child, loader_exec, argv);
	if (ret < 0)
		return ret;
	l->timer = (struct timer){ .expired = loader_late, .opaque = l };
	loader_limit(l, 0);
	l->watch = loop_add(l->loop, l->child.fd, EPOLLIN, loader_event, l);
	if (l->watch)
		return 0;
	loader_stop(l);
	return -ENOMEM;
}
