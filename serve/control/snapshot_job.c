/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot at a time (serve/control/snapshot_job.h).
 */
#include "serve/control/snapshot_job.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

void snapshot_job_init(struct snapshot_job *job, struct loop *loop, struct view *view)
{
	*job = (struct snapshot_job){
		.view = view,
		.loop = loop,
		.dir = { .dir_fd = -1, .state_fd = -1, .memory_fd = -1 },
		.done_fd = -1,
		.timer_fd = -1,
	};
}

/* --- Being filled --- */

static uint64_t snapshot_job_written(const struct snapshot_job *job)
{
	const int fds[] = { job->dir.state_fd, job->dir.memory_fd };
	uint64_t sum = 0;
	struct stat st;

	for (unsigned i = 0; i < 2; i++)
		if (fstat(fds[i], &st) == 0)
			sum += (uint64_t)st.st_mtim.tv_sec * 1000000000u +
			       (uint64_t)st.st_mtim.tv_nsec + (uint64_t)st.st_blocks;
	return sum;
}

static void snapshot_job_unwatch(struct snapshot_job *job)
{
	loop_remove(job->loop, job->timer_watch);
	if (job->timer_fd >= 0)
		close(job->timer_fd);
	job->timer_watch = NULL;
	job->timer_fd = -1;
}

/* A VM process may be held up by its guest or its disk for ever; who waits for it may not. */
static void snapshot_job_look(void *opaque, uint32_t events)
{
	struct snapshot_job *job = opaque;
	uint64_t written, count;
	char text[96];

	(void)events;
	if (read(job->timer_fd, &count, sizeof(count)) < 0)
		return;
	written = snapshot_job_written(job);
	if (written != job->written) {
		job->written = written;
		return;
	}
	snprintf(text, sizeof(text),
		 "the VM process has saved nothing for %d s, the snapshot is dropped",
		 SNAPSHOT_SILENCE_S);
	snapshot_job_failed(job, text);
	job->stage = SNAPSHOT_LATE;
}

static int snapshot_job_watch(struct snapshot_job *job)
{
	const struct itimerspec silence = {
		.it_interval.tv_sec = SNAPSHOT_SILENCE_S,
		.it_value.tv_sec = SNAPSHOT_SILENCE_S,
	};

	job->written = snapshot_job_written(job);
	job->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (job->timer_fd < 0)
		return failf(errno, "cannot make a timer: %s", strerror(errno));
	timerfd_settime(job->timer_fd, 0, &silence, NULL);
	job->timer_watch = loop_add(job->loop, job->timer_fd, EPOLLIN, snapshot_job_look, job);
	return job->timer_watch ? 0 : -ENOMEM;
}

int snapshot_job_start(struct snapshot_job *job, const char *uri, const char *config)
{
	const char *path = uri + strlen("file:");
	int ret;

	if (job->stage == SNAPSHOT_LATE)
		return failf(EBUSY, "the VM process has not answered since the last snapshot");
	if (job->stage != SNAPSHOT_IDLE)
		return failf(EBUSY, "a snapshot is being written already");
	if (strncmp(uri, "file:", strlen("file:")) != 0)
		return failf(EINVAL, "uri '%.128s': a snapshot goes to file:DIR", uri);
	if (path[0] != '/')
		return failf(EINVAL, "uri '%.128s': DIR must be an absolute path", uri);
	ret = snapshot_dir_create(&job->dir, path, config, strlen(config));
	if (ret < 0)
		return ret;
	ret = snapshot_job_watch(job);
	if (ret < 0) {
		snapshot_job_unwatch(job);
		snapshot_dir_abort(&job->dir);
		return ret;
	}
	job->stage = SNAPSHOT_SAVING;
	job->start_us = monotonic_us();
	job->view->snapshot.status = VIEW_SNAPSHOT_ACTIVE;
	job->view->snapshot.pause_us = 0;
	return 0;
}

/* The end of it, good or bad; error "" is good. */
static void snapshot_job_end(struct snapshot_job *job, const char *error)
{
	struct view *view = job->view;

	job->stage = SNAPSHOT_IDLE;
	view->snapshot.total_us = monotonic_us() - job->start_us;
	view->snapshot.status = *error ? VIEW_SNAPSHOT_FAILED : VIEW_SNAPSHOT_DONE;
	snprintf(view->snapshot.error, sizeof(view->snapshot.error), "%s", error);
	text_clean(view->snapshot.error);
}

void snapshot_job_failed(struct snapshot_job *job, const char *sentence)
{
	if (job->stage == SNAPSHOT_LATE)
		job->stage = SNAPSHOT_IDLE;
	if (job->stage != SNAPSHOT_SAVING)
		return;
	snapshot_job_unwatch(job);
	snapshot_dir_abort(&job->dir);
	snapshot_job_end(job, *sentence ? sentence : "the machine could not be saved");
}

/* --- Onto the disk --- */

static void snapshot_job_commit(struct snapshot_job *job)
{
	job->result = snapshot_dir_commit(&job->dir);
	if (job->result < 0)
		snprintf(job->error, sizeof(job->error), "%s", error_text());
	else
		job->error[0] = '\0';
}

static void *snapshot_job_thread(void *opaque)
{
	struct snapshot_job *job = opaque;
	uint64_t one = 1;

	snapshot_job_commit(job);
	if (write(job->done_fd, &one, sizeof(one)) < 0)
		notef("cannot report that a snapshot was written: %s", strerror(errno));
	return NULL;
}

static void snapshot_job_done(struct snapshot_job *job)
{
	pthread_join(job->thread, NULL);
	loop_remove(job->loop, job->watch);
	close(job->done_fd);
	job->watch = NULL;
	job->done_fd = -1;
	snapshot_job_end(job, job->error);
}

static void snapshot_job_event(void *opaque, uint32_t events)
{
	(void)events;
	snapshot_job_done(opaque);
}

static bool snapshot_job_spawn(struct snapshot_job *job)
{
	job->done_fd = eventfd(0, EFD_CLOEXEC);
	if (job->done_fd < 0)
		return false;
	job->watch = loop_add(job->loop, job->done_fd, EPOLLIN, snapshot_job_event, job);
	if (job->watch && pthread_create(&job->thread, NULL, snapshot_job_thread, job) == 0)
		return true;
	loop_remove(job->loop, job->watch);
	close(job->done_fd);
	job->watch = NULL;
	job->done_fd = -1;
	return false;
}

void snapshot_job_saved(struct snapshot_job *job, uint64_t pause_us)
{
	if (job->stage == SNAPSHOT_LATE)
		job->stage = SNAPSHOT_IDLE;
	if (job->stage != SNAPSHOT_SAVING)
		return;
	snapshot_job_unwatch(job);
	job->stage = SNAPSHOT_COMMITTING;
	job->view->snapshot.pause_us = pause_us;
	if (snapshot_job_spawn(job))
		return;
	/* No thread to be had: the control socket waits rather than the snapshot fails. */
	snapshot_job_commit(job);
	snapshot_job_end(job, job->error);
}

void snapshot_job_fini(struct snapshot_job *job)
{
	snapshot_job_failed(job, "the machine has ended");
	if (job->stage == SNAPSHOT_COMMITTING)
		snapshot_job_done(job);
}
