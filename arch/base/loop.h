/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop thread's epoll set: descriptors of device back ends, the supervisor's
 * socket, timers. Handlers run on the loop thread with the VM lock held.
 */
#ifndef VIRGA_ARCH_BASE_LOOP_H
#define VIRGA_ARCH_BASE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Called with EPOLLIN/EPOLLOUT/EPOLLHUP/EPOLLERR bits, VM lock held. May remove its own watch. */
typedef void (*loop_handler)(void *opaque, uint32_t events);

struct loop_watch; /* opaque; owned by the loop */

struct loop {
	int epoll_fd;
	int wake_fd;                /* eventfd that loop_stop() writes */
	unsigned count;             /* watches in place; with none no loop thread is needed */
	struct loop_watch *watches; /* singly linked, all of them, removed ones until swept */
	bool stopping;
};

/* No descriptor is opened before the first watch. */
void loop_init(struct loop *l);
void loop_fini(struct loop *l);

/*
 * In a process that was forked off the loop's: closes the set and every descriptor that is watched.
 * Those of the loop's own process stay as they are.
 */
void loop_abandon(struct loop *l);

/* Watches fd (not owned) for events. Returns the watch, or NULL with a sentence. VM lock held. */
struct loop_watch *loop_add(struct loop *l, int fd, uint32_t events, loop_handler handler,
			    void *opaque);

/* Changes what is waited for; 0 waits for hang-up and error only. */
void loop_modify(struct loop *l, struct loop_watch *w, uint32_t events);

/* Ends a watch; the handler is not called again. The fd stays open. NULL is ignored. */
void loop_remove(struct loop *l, struct loop_watch *w);

/*
 * Runs handlers, each batch under `lock`, until loop_stop(). 0, or -errno when epoll fails.
 */
int loop_run(struct loop *l, pthread_mutex_t *lock);

/*
 * One batch: waits for events, timeout_ms at most (-1: for ever), and runs their handlers under
 * `lock`. How many there were, or -errno when epoll fails.
 */
int loop_step(struct loop *l, pthread_mutex_t *lock, int timeout_ms);

/* Makes loop_run() return. Any thread, under the lock. */
void loop_stop(struct loop *l);

#endif
