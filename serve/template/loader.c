/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader's two sides (serve/template/loader.h).
 */
#include "serve/template/loader.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
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

static int loader_main(void *opaque, int fd)
{
	const struct loader_source *source = opaque;
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	struct message m;
	int ret;

	prctl(PR_SET_NAME, "virga-loader");
	/* Clients and shells are to see when the front closes what they have. */
	ret = child_keep(&fd, 1, LOADER_FD);
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
	int ret;

	l->watch = NULL;
	ret = child_start(&l->child, loader_main, (void *)(uintptr_t)source);
	if (ret < 0)
		return ret;
	l->watch = loop_add(l->loop, l->child.fd, EPOLLIN, loader_event, l);
	if (l->watch)
		return 0;
	loader_stop(l);
	return -ENOMEM;
}
