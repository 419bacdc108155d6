/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's buffer and its thread (serve/host/log.h).
 */
#include "serve/host/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

#define LOG_LAST_US 1000000u

/* The thread's side of standard output. */
struct log_output {
	uint64_t deadline_us; /* of the end; 0: none yet */
	bool open;            /* its last line has no end, */
	bool cut;             /* and will not get the one that it should have */
	bool skip;            /* nor has the line that was dropped: the rest of it follows */
};

/* Writes a piece; less than all of it when that fails, or when the end does not wait longer. */
static size_t log_write(struct log *log, const char *data, size_t len, uint64_t *deadline_us)
{
	size_t at = 0;

	while (at < len) {
		struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
		bool ending;
		ssize_t n;

		pthread_mutex_lock(&log->lock);
		ending = log->ending;
		pthread_mutex_unlock(&log->lock);
		if (ending && !*deadline_us)
			*deadline_us = monotonic_us() + LOG_LAST_US;
		if (*deadline_us && monotonic_us() > *deadline_us)
			break;
		if (poll(&out, 1, LOG_PAUSE_MS) <= 0)
			continue;
		n = write(STDOUT_FILENO, data + at, len - at < 4096 ? len - at : 4096);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	return at;
}

/* A piece of lines; one may be in two pieces. What cannot be written is dropped, whole lines of it. */
static uint64_t log_put(struct log *log, struct log_output *out, const char *data, size_t len)
{
	const char *newline = out->skip ? memchr(data, '\n', len) : NULL;
	size_t at = out->skip ? newline ? (size_t)(newline + 1 - data) : len : 0, from = at;
	uint64_t dropped = newline != NULL;

	out->skip &= !newline;
	/* What came of a line before the disk was full is ended, so that the next one is whole. */
	if (out->cut && at < len)
		out->cut = log_write(log, "\n", 1, &out->deadline_us) == 0;
	if (!out->cut)
		at += log_write(log, data + at, len - at, &out->deadline_us);
	if (at > from)
		out->open = data[at - 1] != '\n';
	if (at == len)
		return dropped;
	out->cut |= out->open;
	out->skip = data[len - 1] != '\n';
	for (; at < len; at++)
		dropped += data[at] == '\n';
	return dropped;
}

static void log_pause(void)
{
	const struct timespec pause = { .tv_nsec = LOG_PAUSE_MS * 1000000L };

	nanosleep(&pause, NULL);
}

static void *log_thread(void *opaque)
{
	struct log *log = opaque;
	struct log_output out = { 0 };
	uint64_t dropped;

	pthread_mutex_lock(&log->lock);
	for (;;) {
		size_t from, len;

		while (log->head == log->tail && !log->ending) {
			log->waiting = true;
			pthread_cond_wait(&log->filled, &log->lock);
		}
		log->waiting = false;
		if (log->head == log->tail)
			break;
		if (!log->ending) {
			pthread_mutex_unlock(&log->lock);
			log_pause();
			pthread_mutex_lock(&log->lock);
		}
		from = log->tail % LOG_BUFFER_SIZE;
		len = log->head - log->tail;
		if (len > LOG_BUFFER_SIZE - from)
			len = LOG_BUFFER_SIZE - from;
		pthread_mutex_unlock(&log->lock);
		dropped = log_put(log, &out, log->buffer + from, len);
		pthread_mutex_lock(&log->lock);
		log->dropped += dropped;
		log->tail += len;
	}
	pthread_mutex_unlock(&log->lock);
	return NULL;
}

int log_start(struct log *log)
{
	int err;

	*log = (struct log){ .buffer = malloc(LOG_BUFFER_SIZE) };
	if (!log->buffer)
		return failf(ENOMEM, "out of memory for the log");
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->filled, NULL);
	err = pthread_create(&log->thread, NULL, log_thread, log);
	log->running = !err;
	return err ? failf(err, "cannot start the log's thread: %s", strerror(err)) : 0;
}

void log_stop(struct log *log)
{
	if (log->running) {
		pthread_mutex_lock(&log->lock);
		log->ending = true;
		pthread_cond_signal(&log->filled);
		pthread_mutex_unlock(&log->lock);
		pthread_join(log->thread, NULL);
	}
	log->running = false;
	free(log->buffer);
	log->buffer = NULL;
}

void log_add(struct log *log, const char *text, size_t len)
{
	pthread_mutex_lock(&log->lock);
	if (len > LOG_BUFFER_SIZE - (log->head - log->tail)) {
		log->dropped++;
	} else {
		size_t at = log->head % LOG_BUFFER_SIZE;
		size_t part = len < LOG_BUFFER_SIZE - at ? len : LOG_BUFFER_SIZE - at;

		memcpy(log->buffer + at, text, part);
		memcpy(log->buffer, text + part, len - part);
		log->head += len;
		if (log->waiting) {
			log->waiting = false;
			pthread_cond_signal(&log->filled);
		}
	}
	pthread_mutex_unlock(&log->lock);
}

uint64_t log_dropped(struct log *log)
{
	uint64_t dropped;

	pthread_mutex_lock(&log->lock);
	dropped = log->dropped;
	pthread_mutex_unlock(&log->lock);
	return dropped;
}
