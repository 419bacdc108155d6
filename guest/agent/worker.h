/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that computes an answer, in a process group of its own, with pipes
 * at its standard descriptors: a command of one request, or a handler that stays.
 */
#ifndef VIRGA_GUEST_AGENT_WORKER_H
#define VIRGA_GUEST_AGENT_WORKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/agent/buffer.h"

#define WORKER_TAIL_MAX 400u /* bytes of stderr that an error sentence quotes */

struct worker {
	pid_t pid; /* 0: none; its process group has the same number */
	int in;    /* our ends; -1 when closed */
	int out;
	int err;
	bool exited; /* reaped; status is valid */
	int status;
	struct buffer input;  /* for its stdin */
	struct buffer output; /* from its stdout */
	size_t tail_len;
	char tail[WORKER_TAIL_MAX]; /* the last of its stderr */
};

void worker_init(struct worker *w);

/* Starts argv with an empty output. input_wanted: else stdin is /dev/null. 0 or -errno. */
int worker_start(struct worker *w, char *const argv[], bool input_wanted);

/* Writes input as far as it is taken; closes stdin at the end unless `keep`. */
void worker_feed(struct worker *w, bool keep);

/*
 * Reads a part of stdout into output: bytes read, 0 for none now or ended. -EMSGSIZE when output
 * is longer than max, -ENOMEM.
 */
ssize_t worker_read(struct worker *w, size_t max);

/* Reads a part of stderr, at most size bytes, which also go to the tail. 0: none now or ended. */
size_t worker_read_errors(struct worker *w, char *data, size_t size);

/* Kills the process group, if it is there, and forgets the process. */
void worker_kill(struct worker *w);

/* "ended with status 3: TAIL" or the like, in text. */
void worker_describe(const struct worker *w, char *text, size_t size);

#endif
