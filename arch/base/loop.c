/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The epoll set (arch/base/loop.h). A removed watch stays on the list until the batch
 * of events that may still name it has been handled.
 */
#include "arch/base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "arch/base/error.h"

#define LOOP_BATCH 32

struct loop_watch {
	struct loop_watch *next;
	int fd;
	bool removed;
	loop_handler handler;
	void *opaque;
};

void loop_init(struct loop *l)
{
	*l = (struct loop){ .epoll_fd = -1, .wake_fd = -1 };
}

/*
 * Makes the epoll set and its wake-up: at the first watch, because a machine that watches nothing
 * (a clone with its one request) should not pay for them.
 */
static int loop_open(struct loop *l)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll_fd < 0 || l->wake_fd < 0 ||
	    epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0)
		return failf(errno, "cannot make an epoll set: %s", strerror(errno));
	return 0;
}

/* Frees the watches that were removed. */
static void loop_sweep(struct loop *l)
{
	struct loop_watch **at = &l->watches;

	while (*at) {
		struct loop_watch *w = *at;

		if (w->removed) {
			*at = w->next;
			free(w);
		} else {
			at = &w->next;
		}
	}
}

void loop_fini(struct loop *l)
{
	for (struct loop_watch *w = l->watches; w; w = w->next)
		w->removed = true;
	loop_sweep(l);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	loop_init(l);
}

/* The set itself is shared with the parent: nothing may be taken out of it. */
void loop_abandon(struct loop *l)
{
	for (struct loop_watch *w = l->watches; w; w = w->next)
		if (!w->removed)
			close(w->fd);
	loop_fini(l);
}

struct loop_watch *loop_add(struct loop *l, int fd, uint32_t events, loop_handler handler,
			    void *opaque)
{
	struct loop_watch *w = calloc(1, sizeof(*w));
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (!w) {
		failf(ENOMEM, "out of memory");
		return NULL;
	}
	if (l->epoll_fd < 0 && loop_open(l) < 0) {
		free(w);
		return NULL;
	}
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		failf(errno, "cannot watch a descriptor: %s", strerror(errno));
		free(w);
		return NULL;
	}
	*w = (struct loop_watch){
		.next = l->watches, .fd = fd, .handler = handler, .opaque = opaque
	};
	l->watches = w;
	l->count++;
	return w;
}

void loop_modify(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev);
}

void loop_remove(struct loop *l, struct loop_watch *w)
{
	if (!w || w->removed)
		return;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->removed = true;
	l->count--;
}

/* Handles one batch of events. */
static void loop_dispatch(struct loop *l, const struct epoll_event *events, int n)
{
	for (int i = 0; i < n; i++) {
		struct loop_watch *w = events[i].data.ptr;

		if (w && !w->removed)
			w->handler(w->opaque, events[i].events);
	}
	loop_sweep(l);
}

int loop_step(struct loop *l, pthread_mutex_t *lock, int timeout_ms)
{
	struct epoll_event events[LOOP_BATCH];
	int n = epoll_wait(l->epoll_fd, events, LOOP_BATCH, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	pthread_mutex_lock(lock);
	loop_dispatch(l, events, n);
	pthread_mutex_unlock(lock);
	return n;
}

/* `stopping` is read without the lock: whoever sets it wakes the loop afterwards. */
int loop_run(struct loop *l, pthread_mutex_t *lock)
{
	int ret;

	do
		ret = loop_step(l, lock, -1);
	while (ret >= 0 && !__atomic_load_n(&l->stopping, __ATOMIC_ACQUIRE));
	return ret < 0 ? ret : 0;
}

void loop_stop(struct loop *l)
{
	uint64_t one = 1;

	__atomic_store_n(&l->stopping, true, __ATOMIC_RELEASE);
	if (l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof(one)) < 0)
		notef("cannot wake the loop thread: %s", strerror(errno));
}
