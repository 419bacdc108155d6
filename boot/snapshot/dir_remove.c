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

static bool snapshot_dir_knows(const char *name)
{
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

int snapshot_dir_remove(const struct snapshot_dir *dir)
{
	for (size_t i = 0; i < SNAPSHOT_FILES; i++)
		if (unlinkat(dir->dir_fd, snapshot_files[i].name, 0) < 0 && errno != ENOENT)
			return failf(errno, "%s/%s: cannot be removed: %s", dir->tmp_path,
				     snapshot_files[i].name, strerror(errno));
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
