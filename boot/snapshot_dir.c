/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a snapshot while it is written (boot/snapshot.h): PATH.tmp, locked
 * with flock(2) on the directory itself, renamed when it is whole. The lock goes
 * with the last copy of the descriptor, so a writer that dies leaves no live lock.
 */
#include "boot/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/error.h"

#define DIR_ATTEMPTS        16 /* at a directory that others make and remove meanwhile */
#define DIR_NO_REPLACE      1u /* RENAME_NOREPLACE, which musl's headers lack */
#define DIR_FILE_MODE       0600
#define DIR_DIR_MODE        0700
#define DIR_SUFFIX          ".tmp"

/* Its presence says that the directory can go, though it may look complete. */
#define SNAPSHOT_UNFINISHED "unfinished"

static const char *const snapshot_files[] = { "config", "state", "memory", "working-set",
					      SNAPSHOT_UNFINISHED };
#define SNAPSHOT_FILES_ALWAYS 3 /* the rest may be missing */
#define SNAPSHOT_FILES        (sizeof(snapshot_files) / sizeof(snapshot_files[0]))

static bool snapshot_dir_knows(const char *name)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (strcmp(name, snapshot_files[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Whether tmp_path is still the directory behind dir_fd. */
static bool snapshot_dir_same(const struct snapshot_dir *dir)
{
	struct stat ours, there;

	return fstat(dir->dir_fd, &ours) == 0 && lstat(dir->tmp_path, &there) == 0 &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* -EEXIST with a sentence when a left-over holds anything that no snapshot has. */
static int snapshot_dir_check_known(const struct snapshot_dir *dir, const char *path)
{
	int fd = openat(dir->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int ret = 0;

	if (!stream) {
		ret = failf(errno, "%s: cannot be read: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ret;
	}
	while (ret == 0 && (entry = readdir(stream)) != NULL)
		if (!snapshot_dir_knows(entry->d_name))
			ret = failf(EEXIST,
				    "%s: holds '%s', which is no part of a snapshot; remove it "
				    "yourself",
				    path, entry->d_name);
	closedir(stream);
	return ret;
}

/*
 * -EEXIST with a sentence when a left-over could be somebody's snapshot: a copy under this name, or
 * one whose writer died just before it gave it the final name.
 */
static int snapshot_dir_check_partial(const struct snapshot_dir *dir)
{
	struct snapshot snapshot;

	if (faccessat(dir->dir_fd, SNAPSHOT_UNFINISHED, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (snapshot_open(&snapshot, dir->tmp_path) < 0)
		return 0;
	snapshot_close(&snapshot);
	return failf(EEXIST,
		     "%s: is in the way and looks like a complete snapshot; move or remove it",
		     dir->tmp_path);
}

/* Removes the known files and the directory, whose lock we hold. */
static int snapshot_dir_remove(const struct snapshot_dir *dir)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (unlinkat(dir->dir_fd, snapshot_files[i], 0) < 0 && errno != ENOENT)
			return failf(errno, "%s/%s: cannot be removed: %s", dir->tmp_path,
				     snapshot_files[i], strerror(errno));
	if (rmdir(dir->tmp_path) < 0 && errno != ENOENT)
		return failf(errno, "%s: cannot be removed: %s", dir->tmp_path, strerror(errno));
	return 0;
}

/* Opens and locks tmp_path. -EBUSY when its writer lives, -EAGAIN (no sentence) when it went away. */
static int snapshot_dir_lock(struct snapshot_dir *dir)
{
	int ret;

	dir->dir_fd = open(dir->tmp_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->dir_fd < 0)
		return errno == ENOENT ? -EAGAIN
				       : failf(errno, "%s: cannot be opened: %s", dir->tmp_path,
					       strerror(errno));
	if (flock(dir->dir_fd, LOCK_EX | LOCK_NB) < 0)
		ret = errno == EWOULDBLOCK
			      ? failf(EBUSY, "%s: another snapshot is being written to it",
				      dir->path)
			      : failf(errno, "%s: cannot be locked: %s", dir->tmp_path,
				      strerror(errno));
	else if (!snapshot_dir_same(dir))
		ret = -EAGAIN;
	else
		return 0;
	close(dir->dir_fd);
	dir->dir_fd = -1;
	return ret;
}

/* Removes a left-over whose lock we hold, and says so. The lock goes with it. */
static int snapshot_dir_remove_left_over(struct snapshot_dir *dir)
{
	int ret = snapshot_dir_check_known(dir, dir->tmp_path);

	if (ret == 0)
		ret = snapshot_dir_check_partial(dir);
	if (ret == 0)
		ret = snapshot_dir_remove(dir);
	if (ret == 0)
		notef("removed %s, left over from a snapshot whose writer died", dir->tmp_path);
	close(dir->dir_fd);
	dir->dir_fd = -1;
	return ret;
}

/*
 * One attempt to make PATH.tmp and lock it. 0; -EAGAIN (no sentence) when a left-over was removed
 * or another process was quicker: try again.
 */
static int snapshot_dir_claim(struct snapshot_dir *dir)
{
	bool made = mkdir(dir->tmp_path, DIR_DIR_MODE) == 0;
	int ret;

	if (!made && errno != EEXIST)
		return failf(errno, "%s: cannot be made: %s", dir->tmp_path, strerror(errno));
	ret = snapshot_dir_lock(dir);
	if (ret < 0 || made)
		return ret;
	ret = snapshot_dir_remove_left_over(dir);
	return ret < 0 ? ret : -EAGAIN;
}

static int snapshot_dir_open_file(const struct snapshot_dir *dir, const char *name)
{
	int fd = openat(dir->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			DIR_FILE_MODE);

	if (fd < 0)
		return failf(errno, "%s/%s: cannot be made: %s", dir->tmp_path, name,
			     strerror(errno));
	return fd;
}

int snapshot_dir_add(const struct snapshot_dir *dir, const char *name, const void *data, size_t len)
{
	int fd = snapshot_dir_open_file(dir, name), ret = 0;

	if (fd < 0)
		return fd;
	for (size_t at = 0; at < len && ret == 0;) {
		ssize_t n = write(fd, (const char *)data + at, len - at);

		if (n > 0)
			at += (size_t)n;
		else if (n == 0 || errno != EINTR)
			ret = failf(n < 0 ? errno : ENOSPC, "%s/%s: cannot write %zu bytes: %s",
				    dir->tmp_path, name, len, strerror(n < 0 ? errno : ENOSPC));
	}
	close(fd);
	return ret;
}

int snapshot_dir_unfinished(const struct snapshot_dir *dir)
{
	int fd = openat(dir->dir_fd, SNAPSHOT_UNFINISHED,
			O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, DIR_FILE_MODE);

	if (fd < 0)
		return failf(errno, "%s/" SNAPSHOT_UNFINISHED ": cannot be made: %s", dir->tmp_path,
			     strerror(errno));
	close(fd);
	return 0;
}

/* Bytes of path without the slashes at its end. */
static size_t snapshot_dir_len(const char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	return len;
}

int snapshot_dir_check_name(const char *path)
{
	const size_t len = snapshot_dir_len(path), suffix = strlen(DIR_SUFFIX);

	if (len == 0)
		return failf(EINVAL, "the name of a snapshot directory is empty");
	if (len >= suffix && memcmp(path + len - suffix, DIR_SUFFIX, suffix) == 0)
		return failf(EINVAL,
			     "%s: ends in " DIR_SUFFIX ", which virga keeps for snapshots being "
			     "written; choose another name",
			     path);
	return 0;
}

/* Fills in both names. */
static int snapshot_dir_name(struct snapshot_dir *dir, const char *path)
{
	int ret = snapshot_dir_check_name(path);
	char *tmp_path;

	*dir = (struct snapshot_dir){ .dir_fd = -1, .state_fd = -1, .memory_fd = -1 };
	if (ret < 0)
		return ret;
	dir->path = strndup(path, snapshot_dir_len(path));
	if (!dir->path || asprintf(&tmp_path, "%s" DIR_SUFFIX, dir->path) < 0)
		return failf(ENOMEM, "out of memory");
	dir->tmp_path = tmp_path;
	return 0;
}

/* A snapshot never replaces. */
static int snapshot_dir_check_free(const struct snapshot_dir *dir)
{
	struct stat st;

	if (lstat(dir->path, &st) == 0)
		return failf(EEXIST,
			     "%s: exists already; a snapshot never replaces, so remove it or name "
			     "another",
			     dir->path);
	if (errno != ENOENT)
		return failf(errno, "%s: cannot be made: %s", dir->path, strerror(errno));
	return 0;
}

int snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			size_t config_len)
{
	int ret = snapshot_dir_name(dir, path);

	if (ret == 0)
		ret = snapshot_dir_check_free(dir);
	for (unsigned i = 0; ret == 0 && dir->dir_fd < 0; i++) {
		ret = snapshot_dir_claim(dir);
		if (ret == -EAGAIN)
			ret = i < DIR_ATTEMPTS ? 0
					       : failf(EBUSY, "%s: others make and remove it too",
						       dir->tmp_path);
	}
	if (ret == 0)
		ret = snapshot_dir_add(dir, "config", config, config_len);
	if (ret == 0)
		ret = dir->state_fd = snapshot_dir_open_file(dir, "state");
	if (ret >= 0)
		ret = dir->memory_fd = snapshot_dir_open_file(dir, "memory");
	if (ret >= 0)
		return 0;
	snapshot_dir_abort(dir);
	return ret;
}

/* fsyncs one file of the directory; it must still be in it, unless it may be missing. */
static int snapshot_dir_sync(const struct snapshot_dir *dir, const char *name, bool optional)
{
	int fd = openat(dir->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), ret = 0;

	if (fd < 0 && errno == ENOENT && optional)
		return 0;
	if (fd < 0)
		return failf(errno, "%s/%s: went away while the snapshot was written: %s",
			     dir->tmp_path, name, strerror(errno));
	if (fsync(fd) < 0)
		ret = failf(errno, "%s/%s: cannot be written to disk: %s", dir->tmp_path, name,
			    strerror(errno));
	close(fd);
	return ret;
}

static int snapshot_dir_rename(const struct snapshot_dir *dir)
{
	int err;

	if (!snapshot_dir_same(dir))
		return failf(ENOENT, "%s: went away while the snapshot was written", dir->tmp_path);
	if (syscall(SYS_renameat2, AT_FDCWD, dir->tmp_path, AT_FDCWD, dir->path, DIR_NO_REPLACE) ==
	    0)
		return 0;
	err = errno;
	if (err == EEXIST)
		return failf(err, "%s: was made by another meanwhile; the snapshot is dropped",
			     dir->path);
	if (err == EINVAL)
		return failf(err,
			     "%s: this file system cannot rename without replacing; use another",
			     dir->path);
	return failf(err, "%s: cannot be renamed to %s: %s", dir->tmp_path, dir->path,
		     strerror(err));
}

/* Closes and frees; afterwards it may be called again. */
static void snapshot_dir_close(struct snapshot_dir *dir)
{
	int *fds[] = { &dir->memory_fd, &dir->state_fd, &dir->dir_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	free(dir->path);
	free(dir->tmp_path);
	dir->path = dir->tmp_path = NULL;
}

int snapshot_dir_commit(struct snapshot_dir *dir)
{
	int parent_fd = -1, ret = 0;

	/* All on their way at once: the first fsync then commits what the others need too. */
	sync_file_range(dir->memory_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	sync_file_range(dir->state_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	for (size_t i = 0; i < SNAPSHOT_FILES && ret == 0; i++)
		ret = snapshot_dir_sync(dir, snapshot_files[i], i >= SNAPSHOT_FILES_ALWAYS);
	if (ret == 0)
		ret = snapshot_dir_sync(dir, ".", false);
	if (ret == 0) {
		parent_fd = openat(dir->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (parent_fd < 0)
			ret = failf(errno, "%s: its directory cannot be opened: %s", dir->path,
				    strerror(errno));
	}
	if (ret == 0)
		ret = snapshot_dir_rename(dir);
	if (ret < 0) {
		if (parent_fd >= 0)
			close(parent_fd);
		snapshot_dir_abort(dir);
		return ret;
	}
	/* It means nothing under the final name, and until then a writer may die. */
	unlinkat(dir->dir_fd, SNAPSHOT_UNFINISHED, 0);
	/* The snapshot is whole and has its name; only a crash of the host could lose that now. */
	if (fsync(parent_fd) < 0)
		ret = failf(errno, "%s: its name cannot be written to disk: %s", dir->path,
			    strerror(errno));
	close(parent_fd);
	snapshot_dir_close(dir);
	return ret;
}

void snapshot_dir_abort(struct snapshot_dir *dir)
{
	/* The sentence that is stored says why it came to this: keep it. */
	if (dir->dir_fd >= 0 && dir->tmp_path) {
		for (size_t i = 0; i < SNAPSHOT_FILES; i++)
			unlinkat(dir->dir_fd, snapshot_files[i], 0);
		if (snapshot_dir_same(dir))
			rmdir(dir->tmp_path);
	}
	snapshot_dir_close(dir);
}

int snapshot_dir_sweep(const char *path)
{
	struct snapshot_dir dir;
	int ret = snapshot_dir_name(&dir, path);

	if (ret == 0)
		ret = snapshot_dir_lock(&dir);
	if (ret == 0)
		ret = snapshot_dir_remove_left_over(&dir);
	snapshot_dir_close(&dir);
	return ret < 0 && ret != -EAGAIN ? ret : 0;
}

/* Gives PATH the name PATH.tmp and removes it. */
static int snapshot_dir_remove_final(struct snapshot_dir *dir)
{
	int ret;

	dir->dir_fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->dir_fd < 0)
		return failf(errno, "%s: cannot be opened: %s", dir->path, strerror(errno));
	ret = snapshot_dir_check_known(dir, dir->path);
	if (ret == 0)
		ret = snapshot_dir_unfinished(dir);
	if (ret < 0)
		return ret;
	if (syscall(SYS_renameat2, AT_FDCWD, dir->path, AT_FDCWD, dir->tmp_path, DIR_NO_REPLACE) <
	    0)
		return failf(errno, "%s: cannot be renamed to %s: %s", dir->path, dir->tmp_path,
			     strerror(errno));
	return snapshot_dir_remove(dir);
}

int snapshot_dir_delete(const char *path)
{
	struct snapshot_dir dir;
	int ret = snapshot_dir_name(&dir, path);

	if (ret == 0)
		ret = snapshot_dir_remove_final(&dir);
	snapshot_dir_close(&dir);
	return ret;
}
