/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a template for the host: a child process, executed like the spawner, reads and verifies it, or
 * makes the embedded guest's, and sends it back sealed. Seconds of work that the front's loop must not do,
 * and on a disk that does not answer they end.
 */
#ifndef VIRGA_SERVE_TEMPLATE_LOADER_H
#define VIRGA_SERVE_TEMPLATE_LOADER_H

#include <stdint.h>

#include "arch/base/loop.h"
#include "arch/base/timers.h"
#include "boot/snapshot/sealed.h"
#include "serve/ipc/child.h"

/* What to load. */
struct loader_source {
	const char *path; /* of a template's directory; NULL: the embedded guest */
	uint64_t memory;  /* of the embedded guest, bytes; 0: the default */
};

struct loader {
	struct loop *loop;
	struct timers *timers; /* with room for one more */
	struct timer timer;
	uint64_t limit_s; /* what it may take, by the size of its template */
	struct child child;
	struct loop_watch *watch;
	/* sealed is the callee's to take, or NULL with what went wrong. The loader has ended. */
	void (*done)(void *opaque, struct sealed *sealed, const char *error);
	void *opaque;
};

/* Starts the child; loop, timers, done and opaque are set. 0 or -errno with a sentence. */
int loader_start(struct loader *l, const struct loader_source *source);

/* Ends it without a word. Safe when there is none, once loop and timers are set. */
void loader_stop(struct loader *l);

#endif
