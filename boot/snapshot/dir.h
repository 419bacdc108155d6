/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory PATH of a snapshot while it is made, replaced and removed. All of it
 * happens under the name PATH.tmp, locked with flock(2) on the directory itself, so that
 * PATH is at every moment whole or not there. The lock goes with the last copy of its
 * descriptor: a writer that dies leaves no live lock.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_DIR_H
#define VIRGA_BOOT_SNAPSHOT_DIR_H

#include <stdbool.h>
#include <stddef.h>

struct snapshot_dir {
	char *path;     /* final name, owned */
	char *tmp_path; /* PATH.tmp, owned */
	int dir_fd;     /* of PATH.tmp, holding its lock; -1 when closed */
	int state_fd;   /* -1 before snapshot_dir_files() */
	int memory_fd;
	bool replace; /* PATH may be there: it is exchanged */
};

/* -EINVAL with a sentence when no snapshot may have that name: it is empty or ends in .tmp. */
int snapshot_dir_check_name(const char *path);

/*
 * Makes and locks an empty PATH.tmp. PATH must not exist (-EEXIST); with `replace` it may be a
 * snapshot, of any version, damaged or not, and nothing beside it. A PATH.tmp whose writer died is
 * removed and said, unless it is complete (-EEXIST); one whose writer lives is -EBUSY.
 */
int snapshot_dir_open(struct snapshot_dir *dir, const char *path, bool replace);

/* Writes `config` and makes empty `state` and `memory` in it. On failure PATH.tmp is removed. */
int snapshot_dir_files(struct snapshot_dir *dir, const char *config, size_t config_len);

/* Both, never replacing. */
int snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			size_t config_len);

/* Adds a file to PATH.tmp: `config`, or one that a snapshot may have. 0 or -errno, sentence. */
int snapshot_dir_add(const struct snapshot_dir *dir, const char *name, const void *data,
		     size_t len);

/*
 * Says by a file of its own that PATH.tmp is worth nothing, even when it looks complete;
 * snapshot_dir_commit() removes that file when PATH has its name. 0 or -errno with a sentence.
 */
int snapshot_dir_unfinished(const struct snapshot_dir *dir);

/*
 * fsyncs all and gives PATH.tmp the name PATH. A snapshot that may be replaced and is there takes
 * the name PATH.tmp in the same instant, marked as unfinished, and is removed; where names cannot be
 * exchanged it goes first (boot/snapshot/dir_exchange.c). On failure PATH.tmp is removed and PATH is what
 * it was; only when the very last step fails (the new name on disk) PATH is the new one, and whole.
 * Closes and frees in any case.
 */
int snapshot_dir_commit(struct snapshot_dir *dir);

/* Removes PATH.tmp, closes and frees. Safe after commit and on a zeroed (fd -1) struct. */
void snapshot_dir_abort(struct snapshot_dir *dir);

/* Removes a PATH.tmp whose writer died and says so. -EBUSY when it lives. */
int snapshot_dir_sweep(const char *path);

/*
 * Removes the snapshot PATH: it is renamed to PATH.tmp first, so that under its own name it is whole
 * or gone; there is no PATH.tmp yet (snapshot_dir_sweep()). In the lower layer of an overlay, where
 * nothing can be renamed, it is removed under its own name. Machines that run from it go on; where they
 * keep its files in it (FUSE, NFS), PATH.tmp stays, which is said.
 * Refuses a directory that holds anything else.
 */
int snapshot_dir_delete(const char *path);

/* --- Between the files of this module: dir_name.c is the lowest, dir_remove.c above it,
 * then dir_exchange.c --- */

#define SNAPSHOT_FILE_MODE 0600

/* Fills in both names of a struct without descriptors. -errno with a sentence; close it anyway. */
int snapshot_dir_name(struct snapshot_dir *dir, const char *path);

/* Whether path is still the directory behind fd. */
bool snapshot_dir_same(int fd, const char *path);

/* Locks the directory behind fd. -EBUSY with a sentence when somebody else has it. */
int snapshot_dir_flock(const struct snapshot_dir *dir, int fd);

/* Opens and locks tmp_path. -EBUSY when its writer lives, -EAGAIN (no sentence) when it went away. */
int snapshot_dir_lock(struct snapshot_dir *dir);

/* -EEXIST with a sentence when the directory path behind fd holds anything that no snapshot has. */
int snapshot_dir_check_known(int fd, const char *path);

/* Makes the file that says that the directory path behind fd is worth nothing. */
int snapshot_dir_mark(int fd, const char *path);

/*
 * Removes the known files and the directory path behind fd, whose lock we hold. 0, or -errno with a
 * sentence. What FUSE or NFS keeps of files that machines still use keeps the directory: that is said.
 */
int snapshot_dir_remove_said(int fd, const char *path);

/*
 * The same with a left-over PATH.tmp whose lock we hold, which is said. 1 without a word: it is kept, and
 * as good as empty.
 */
int snapshot_dir_remove_left_over(const struct snapshot_dir *dir);

/* What has the name PATH while another gets it. */
struct snapshot_dir_old {
	int fd;
	char *path; /* owned; where it is when it has lost its name; NULL: it is no more */
	bool torn;  /* it is damaged, and PATH.tmp, which is whole, has not got its name */
};

/*
 * PATH.tmp gets the name PATH of the snapshot behind old->fd. On failure -errno with a sentence, and
 * PATH is what it was unless `torn`.
 */
int snapshot_dir_exchange(const struct snapshot_dir *dir, int parent_fd,
			  struct snapshot_dir_old *old);

/* Closes `state` and `memory`. */
void snapshot_dir_close_files(struct snapshot_dir *dir);

/* Closes and frees; afterwards it may be called again. */
void snapshot_dir_close(struct snapshot_dir *dir);

#endif
