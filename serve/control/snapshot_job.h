/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot at a time, as the supervisor sees it: the directory (boot/snapshot/dir.h)
 * is made at once, the VM process fills it, and a thread puts it on disk, because
 * fsync may take seconds and the control socket must not wait for it.
 */
#ifndef VIRGA_SERVE_CONTROL_SNAPSHOT_JOB_H
#define VIRGA_SERVE_CONTROL_SNAPSHOT_JOB_H

#include <pthread.h>
#include <stdint.h>

#include "arch/base/loop.h"
#include "boot/snapshot/dir.h"
#include "serve/control/view.h"

#define SNAPSHOT_SILENCE_S 30 /* without a byte written or an answer: the snapshot has failed */

enum snapshot_stage {
	SNAPSHOT_IDLE,
	SNAPSHOT_SAVING,     /* the VM process fills the files */
	SNAPSHOT_COMMITTING, /* the thread puts them on disk */
	SNAPSHOT_LATE,       /* given up; the VM process has not answered yet */
};

struct snapshot_job {
	enum snapshot_stage stage;
	struct snapshot_dir dir;
	struct view *view; /* its `snapshot` tells how it goes */
	struct loop *loop;
	uint64_t start_us;
	int timer_fd; /* while saving: expires to see whether anything was written since `written` */
	struct loop_watch *timer_watch;
	uint64_t written; /* changes with every write */
	pthread_t thread;
	int done_fd; /* eventfd: the thread has finished */
	struct loop_watch *watch;
	int result; /* the thread's: 0 or -errno, with its sentence */
	char error[sizeof(((struct view *)0)->snapshot.error)];
};

void snapshot_job_init(struct snapshot_job *job, struct loop *loop, struct view *view);

/*
 * Makes the directory for uri ("file:" and an absolute path) with `config` in it; the caller then
 * has job->dir.state_fd and memory_fd filled, and calls snapshot_job_saved() or _failed(). A job
 * whose files do not change for SNAPSHOT_SILENCE_S fails by itself. -errno with a sentence; -EBUSY
 * during another, also one that was given up so.
 */
int snapshot_job_start(struct snapshot_job *job, const char *uri, const char *config);

/* The files are filled: puts the directory on disk in the background, unless it was given up. */
void snapshot_job_saved(struct snapshot_job *job, uint64_t pause_us);

/* The files cannot be filled: removes the directory. No-op when nobody fills them. */
void snapshot_job_failed(struct snapshot_job *job, const char *sentence);

/* Gives up what is being filled, waits for what is being put on disk. */
void snapshot_job_fini(struct snapshot_job *job);

#endif
