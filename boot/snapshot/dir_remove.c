/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Left-overs and removal of snapshot directories (boot/snapshot/dir.h).
 */
#include "boot/snapshot/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"
#include "boot/snapshot/files.h"
#include "boot/snapshot/snapshot.h"

/* --- Left-overs --- */

/* What FUSE and NFS keep of a file that is unlinked while it is open; it goes when that is closed. */
static bool snapshot_dir_is_kept(const char *name)
{
	return strncmp(name, ".fuse_hidden", 12) == 0 || strncmp(name, ".nfs", 4) == 0;
}

static bool snapshot_dir_knows(const char *name)
{
	if (snapshot_dir_is_kept(name))
		return true;
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (strcmp(name, snapshot_files[i].name) == 0)
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

/* 1: what FUSE or NFS keeps of its files keeps the directory. */
static int snapshot_dir_remove(int fd, const char *path)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (unlinkat(fd, snapshot_files[i].name, 0) < 0 && errno != ENOENT)
			return failf(errno, "%s/%s: cannot be removed: %s", path,
				     snapshot_files[i].name, strerror(errno));
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return failf(errno, "%s: cannot be removed: %s", path, strerror(errno));
	return 1;
}

static int snapshot_dir_say_kept(int ret, const char *path)
{
	if (ret > 0)
		notef("%s: stays, empty, until the machines that use its files have ended; then "
		      "'virga template check' removes it",
		      path);
	return ret < 0 ? ret : 0;
}

int snapshot_dir_remove_said(int fd, const char *path)
{
	return snapshot_dir_say_kept(snapshot_dir_remove(fd, path), path);
}

int snapshot_dir_remove_left_over(const struct snapshot_dir *dir)
{
	int ret = snapshot_dir_check_known(dir->dir_fd, dir->tmp_path);

	if (ret == 0)
		ret = snapshot_dir_check_partial(dir);
	if (ret == 0)
		ret = snapshot_dir_remove(dir->dir_fd, dir->tmp_path);
	if (ret == 0)
		notef("removed %s, left over from a snapshot whose writer died", dir->tmp_path);
	return ret;
}

int snapshot_dir_sweep(const char *path)
{
	struct snapshot_dir dir;
	int ret = snapshot_dir_name(&dir, path);

	if (ret == 0)
		ret = snapshot_dir_lock(&dir);
	if (ret == 0)
		ret = snapshot_dir_say_kept(snapshot_dir_remove_left_over(&dir), dir.tmp_path);
	snapshot_dir_close(&dir);
	return ret == -EAGAIN ? 0 : ret;
}

/* --- What is whole --- */

/* Gives PATH the name PATH.tmp and removes it; what cannot be renamed is removed where it is. */
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
	ret = rename_dir_no_replace(dir->path, dir->tmp_path);
	if (ret == 0)
		return snapshot_dir_remove_said(dir->dir_fd, dir->tmp_path);
	if (ret == -EXDEV)
		return snapshot_dir_remove_said(dir->dir_fd, dir->path);
	unlinkat(dir->dir_fd, SNAPSHOT_UNFINISHED, 0);
	return failf(-ret, "%s: cannot be renamed to %s: %s", dir->path, dir->tmp_path,
		     strerror(-ret));
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
