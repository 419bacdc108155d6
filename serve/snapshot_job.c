/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot at a time (serve/snapshot_job.h).
 */
#include "serve/snapshot_job.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/vm.h"

void snapshot_job_init(struct snapshot_job *job, struct loop *loop, struct qmp_machine *machine)
{
	*job = (struct snapshot_job){
		.machine = machine,
		.loop = loop,
		.dir = { .dir_fd = -1, .state_fd = -1, .memory_fd = -1 },
		.done_fd = -1,
	};
}

int snapshot_job_start(struct snapshot_job *job, const char *uri, const char *config)
{
	const char *path = uri + strlen("file:");
	int ret;

	if (job->stage != SNAPSHOT_IDLE)
		return failf(EBUSY, "a snapshot is being written already");
	if (strncmp(uri, "file:", strlen("file:")) != 0)
		return failf(EINVAL, "uri '%.128s': a snapshot goes to file:DIR", uri);
	if (path[0] != '/')
		return failf(EINVAL, "uri '%.128s': DIR must be an absolute path", uri);
	ret = snapshot_dir_create(&job->dir, path, config, strlen(config));
	if (ret < 0)
		return ret;
	job->stage = SNAPSHOT_SAVING;
	job->start_us = monotonic_us();
	job->machine->migration.status = QMP_ACTIVE;
	job->machine->migration.pause_us = 0;
	return 0;
}

/* The end of it, good or bad; error "" is good. */
static void snapshot_job_end(struct snapshot_job *job, const char *error)
{
	struct qmp_machine *m = job->machine;

	job->stage = SNAPSHOT_IDLE;
	m->migration.total_us = monotonic_us() - job->start_us;
	m->migration.status = *error ? QMP_FAILED : QMP_COMPLETED;
	snprintf(m->migration.error, sizeof(m->migration.error), "%s", error);
	/* What goes into JSON is UTF-8, a path in a sentence may be anything. */
	for (char *p = m->migration.error; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
	}
}

void snapshot_job_failed(struct snapshot_job *job, const char *sentence)
{
	if (job->stage != SNAPSHOT_SAVING)
		return;
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
	if (job->stage != SNAPSHOT_SAVING)
		return;
	job->stage = SNAPSHOT_COMMITTING;
	job->machine->migration.pause_us = pause_us;
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
