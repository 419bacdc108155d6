/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, locks and the mark of snapshot directories (boot/snapshot/dir.h): what making, replacing and
 * removing them have in common.
 */
#include "boot/snapshot/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/files.h"

#define DIR_SUFFIX ".tmp"

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

static void snapshot_dir_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void snapshot_dir_close_files(struct snapshot_dir *dir)
{
	snapshot_dir_close_fd(&dir->memory_fd);
	snapshot_dir_close_fd(&dir->state_fd);
}

void snapshot_dir_close(struct snapshot_dir *dir)
{
	snapshot_dir_close_files(dir);
	snapshot_dir_close_fd(&dir->dir_fd);
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

int snapshot_dir_mark(int fd, const char *path)
{
	int mark_fd = openat(fd, SNAPSHOT_UNFINISHED, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
			     SNAPSHOT_FILE_MODE);

	if (mark_fd < 0)
		return failf(errno, "%s/" SNAPSHOT_UNFINISHED ": cannot be made: %s", path,
			     strerror(errno));
	close(mark_fd);
	return 0;
}
