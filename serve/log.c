/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's buffer and its thread (serve/log.h).
 */
#include "serve/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/vm.h"

#define LOG_LAST_US 1000000u

/* Writes a piece; false when standard output is of no use, or the end does not wait longer. */
static bool log_write(struct log *log, const char *data, size_t len, uint64_t *deadline_us)
{
	while (len) {
		struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
		bool ending;
		ssize_t n;

		pthread_mutex_lock(&log->lock);
		ending = log->ending;
		pthread_mutex_unlock(&log->lock);
		if (ending && !*deadline_us)
			*deadline_us = monotonic_us() + LOG_LAST_US;
		if (*deadline_us && monotonic_us() > *deadline_us)
			return false;
		if (poll(&out, 1, LOG_PAUSE_MS) <= 0)
			continue;
		n = write(STDOUT_FILENO, data, len < 4096 ? len : 4096);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void log_pause(void)
{
	const struct timespec pause = { .tv_nsec = LOG_PAUSE_MS * 1000000L };

	nanosleep(&pause, NULL);
}

static void *log_thread(void *opaque)
{
	struct log *log = opaque;
	uint64_t deadline_us = 0;
	bool usable = true;

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
		usable = usable && log_write(log, log->buffer + from, len, &deadline_us);
		pthread_mutex_lock(&log->lock);
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
