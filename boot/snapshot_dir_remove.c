/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, locks, left-overs and removal of snapshot directories (boot/snapshot_dir.h).
 */
#include "boot/snapshot_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/rename.h"
#include "boot/snapshot.h"

#define DIR_SUFFIX ".tmp"

/* The mark goes last: what is removed half-way still has it. */
const char *const snapshot_files[SNAPSHOT_FILES] = {
	"config", "state", "memory", "working-set", "template", SNAPSHOT_UNFINISHED
};

/* --- Names and locks --- */

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

int snapshot_dir_name(struct snapshot_dir *dir, const char *path)
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

void snapshot_dir_close(struct snapshot_dir *dir)
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

bool snapshot_dir_same(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

int snapshot_dir_flock(const struct snapshot_dir *dir, int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK
		       ? failf(EBUSY,
			       "%s: another snapshot is being written to it, or it is being "
			       "removed",
			       dir->path)
		       : failf(errno, "%s: cannot be locked: %s", dir->path, strerror(errno));
}

int snapshot_dir_lock(struct snapshot_dir *dir)
{
	int ret;

	dir->dir_fd = open(dir->tmp_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->dir_fd < 0)
		return errno == ENOENT ? -EAGAIN
				       : failf(errno, "%s: cannot be opened: %s", dir->tmp_path,
					       strerror(errno));
	ret = snapshot_dir_flock(dir, dir->dir_fd);
	if (ret == 0 && !snapshot_dir_same(dir->dir_fd, dir->tmp_path))
		ret = -EAGAIN;
	if (ret == 0)
		return 0;
	close(dir->dir_fd);
	dir->dir_fd = -1;
	return ret;
}

/* --- Left-overs --- */

static bool snapshot_dir_knows(const char *name)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (strcmp(name, snapshot_files[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int snapshot_dir_check_known(int fd, const char *path)
{
	int list_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = list_fd < 0 ? NULL : fdopendir(list_fd);
	struct dirent *entry;
	int ret = 0;

	if (!stream) {
		ret = failf(errno, "%s: cannot be read: %s", path, strerror(errno));
		if (list_fd >= 0)
			close(list_fd);
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

int snapshot_dir_remove(const struct snapshot_dir *dir)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (unlinkat(dir->dir_fd, snapshot_files[i], 0) < 0 && errno != ENOENT)
			return failf(errno, "%s/%s: cannot be removed: %s", dir->tmp_path,
				     snapshot_files[i], strerror(errno));
	if (rmdir(dir->tmp_path) < 0 && errno != ENOENT)
		return failf(errno, "%s: cannot be removed: %s", dir->tmp_path, strerror(errno));
	return 0;
}

int snapshot_dir_remove_left_over(struct snapshot_dir *dir)
{
	int ret = snapshot_dir_check_known(dir->dir_fd, dir->tmp_path);

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

/* --- What is whole --- */

/* Gives PATH the name PATH.tmp and removes it. */
static int snapshot_dir_remove_final(struct snapshot_dir *dir)
{
	int ret;

	dir->dir_fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir->dir_fd < 0)
		return failf(errno, "%s: cannot be opened: %s", dir->path, strerror(errno));
	ret = snapshot_dir_check_known(dir->dir_fd, dir->path);
	if (ret == 0)
		ret = snapshot_dir_flock(dir, dir->dir_fd);
	if (ret == 0)
		ret = snapshot_dir_mark(dir->dir_fd, dir->path);
	if (ret < 0)
		return ret;
	ret = rename_no_replace(dir->path, dir->tmp_path);
	if (ret < 0) {
		unlinkat(dir->dir_fd, SNAPSHOT_UNFINISHED, 0);
		return failf(-ret, "%s: cannot be renamed to %s: %s", dir->path, dir->tmp_path,
			     strerror(-ret));
	}
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
