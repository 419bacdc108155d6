/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawner: a small process that forks shells (serve/machine/shell.h) when the front asks, and
 * reaps them. It keeps the descriptors of sealed templates and nothing of what is in them. Its
 * shells die with it, it dies with the front.
 */
#ifndef VIRGA_SERVE_POOL_SPAWNER_H
#define VIRGA_SERVE_POOL_SPAWNER_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/base/loop.h"
#include "boot/snapshot/sealed.h"
#include "serve/ipc/child.h"
#include "serve/ipc/invocation.h"

struct spawner;

/* What the front hears; loop thread. */
struct spawner_events {
	void (*dead)(void *opaque, uint64_t shell, int wait_status);
	void (*ready)(void *opaque); /* one that was not waited for takes orders */
	/* The spawner is gone, and all shells with it. The struct may be stopped and started anew. */
	void (*gone)(void *opaque);
	void *opaque;
};

/* The front's side. */
struct spawner {
	struct loop *loop;
	const struct spawner_events *events;
	struct child child;
	struct loop_watch *watch; /* NULL: none */
	bool ready;               /* it takes orders */
	int err;                  /* why it could not be executed */
};

/*
 * Starts it, as another program in the file of this one. 0 or -errno with a sentence; when it cannot be
 * executed that shows as its end.
 */
int spawner_start(struct spawner *s, struct loop *loop, const struct spawner_events *events);

/* Waits until it takes orders. 0 or -errno with a sentence that says why it will not. */
int spawner_wait(struct spawner *s);

/* Ends it, and with it its shells; waits for it. Safe when there is none. */
void spawner_stop(struct spawner *s);

/*
 * The front's orders; none waits. 0 or -errno without a sentence: -EAGAIN when the spawner has more
 * to do than its socket holds. fd stays the caller's.
 */
int spawner_template(struct spawner *s, uint32_t template, const struct sealed *sealed,
		     const char *name);
int spawner_forget(struct spawner *s, uint32_t template);
int spawner_spawn(struct spawner *s, uint64_t shell, uint32_t template, enum shell_kind kind,
		  int fd);
int spawner_kill(struct spawner *s, uint64_t shell);

#endif
