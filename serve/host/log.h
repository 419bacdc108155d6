/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of invocations: one JSON object a line on standard output. Whoever logs copies a line
 * into a buffer and goes on; a thread writes. When nobody reads, lines are dropped and counted.
 */
#ifndef VIRGA_SERVE_HOST_LOG_H
#define VIRGA_SERVE_HOST_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_BUFFER_SIZE (1u << 20)
#define LOG_PAUSE_MS    50 /* lines of so long are written at once */

struct log {
	pthread_t thread;
	pthread_mutex_t lock; /* never held while writing */
	pthread_cond_t filled;
	size_t head, tail; /* free-running */
	bool waiting;      /* the thread sleeps until there is something */
	bool ending;
	bool running;
	uint64_t dropped;
	char *buffer; /* owned: LOG_BUFFER_SIZE bytes */
};

/* Starts the thread. 0 or -errno with a sentence. */
int log_start(struct log *log);

/* Writes what is left, as far as standard output takes it within a second, and ends the thread. */
void log_stop(struct log *log);

/* Adds len bytes, whole lines, or drops them. Any thread; waits for nothing that does I/O. */
void log_add(struct log *log, const char *text, size_t len);

/* Lines that were dropped so far. */
uint64_t log_dropped(struct log *log);

#endif
