/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot gets the name of another one (boot/snapshot/dir.h): in one instant where the file system
 * can exchange names, else in two steps. Between these a start fails, and a crash leaves the new one whole
 * under the name PATH.tmp.
 */
#include "boot/snapshot/dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"
#include "boot/snapshot/files.h"

#define EXCHANGE_ASIDE_MAX 64u /* old ones that machines keep */

/* PATH gets the name that sweeping path removes, unless somebody has that. */
static int exchange_away(const struct snapshot_dir *dir, const char *path, char **aside)
{
	int ret = snapshot_dir_sweep(path);

	if (ret < 0)
		return ret;
	if (asprintf(aside, "%s.tmp", path) < 0) {
		*aside = NULL;
		return failf(ENOMEM, "out of memory");
	}
	ret = rename_dir_no_replace(dir->path, *aside);
	if (ret == 0)
		return 0;
	failf(-ret, "%s: cannot be renamed to %s: %s", dir->path, *aside, strerror(-ret));
	free(*aside);
	*aside = NULL;
	return ret;
}

/*
 * FUSE, NFS, 9p: the old one steps aside, under a name that is a left-over if it stays; machines that use
 * an older one may keep that. -EXDEV when it cannot be renamed at all.
 */
static int exchange_aside(const struct snapshot_dir *dir, struct snapshot_dir_old *old)
{
	int ret = -EEXIST;

	for (unsigned i = 1; ret == -EEXIST && i <= EXCHANGE_ASIDE_MAX; i++) {
		char *path;

		if (asprintf(&path, "%s.old%u", dir->path, i) < 0)
			return failf(ENOMEM, "out of memory");
		ret = exchange_away(dir, path, &old->path);
		free(path);
	}
	if (ret < 0)
		return ret;
	/* Onto nothing, or onto a directory that is empty: fuse-overlayfs shows one there. */
	if (rename(dir->tmp_path, dir->path) == 0)
		return 0;
	ret = failf(errno, "%s: cannot be renamed to %s: %s", dir->tmp_path, dir->path,
		    strerror(errno));
	if (rename(old->path, dir->path) < 0)
		notef("%s: is now in %s: %s", dir->path, old->path, strerror(errno));
	return ret;
}

/* The lower layer of an overlay: the old one is emptied where it is, and replaced as it is empty. */
static int exchange_in_place(const struct snapshot_dir *dir, struct snapshot_dir_old *old)
{
	int ret = 0;

	old->torn = true;
	for (size_t i = 0; i < SNAPSHOT_FILES && ret == 0; i++)
		if (unlinkat(old->fd, snapshot_files[i].name, 0) < 0 && errno != ENOENT)
			ret = -errno;
	if (ret == 0)
		ret = rename(dir->tmp_path, dir->path) < 0 ? -errno : 0;
	if (ret == 0)
		return 0;
	return failf(-ret,
		     "%s: cannot be replaced: %s; the new one lies whole in %s: remove the old one "
		     "and rename it",
		     dir->path, strerror(-ret), dir->tmp_path);
}

static int exchange_in_steps(const struct snapshot_dir *dir, int parent_fd,
			     struct snapshot_dir_old *old)
{
	int ret;

	/* Nobody may take it for a left-over when it is all there is. */
	unlinkat(dir->dir_fd, SNAPSHOT_UNFINISHED, 0);
	if (fsync(dir->dir_fd) < 0 || fsync(parent_fd) < 0)
		return failf(errno, "%s: cannot be written to disk: %s", dir->tmp_path,
			     strerror(errno));
	ret = exchange_aside(dir, old);
	return ret == -EXDEV ? exchange_in_place(dir, old) : ret;
}

static int exchange_names(const struct snapshot_dir *dir, int parent_fd,
			  struct snapshot_dir_old *old)
{
	int ret = rename_exchange(dir->tmp_path, dir->path);

	if (ret == -EINVAL || ret == -EXDEV)
		return exchange_in_steps(dir, parent_fd, old);
	if (ret < 0)
		return failf(-ret, "%s: cannot be exchanged with %s: %s", dir->tmp_path, dir->path,
			     strerror(-ret));
	old->path = strdup(dir->tmp_path);
	return 0;
}

/*
 * The old one is marked and locked before it loses its name: whoever finds it later may remove it, nobody
 * does meanwhile.
 */
int snapshot_dir_exchange(const struct snapshot_dir *dir, int parent_fd,
			  struct snapshot_dir_old *old)
{
	int ret = snapshot_dir_flock(dir, old->fd);

	if (ret < 0)
		return ret;
	ret = snapshot_dir_mark(old->fd, dir->path);
	if (ret == 0 && fsync(old->fd) < 0)
		ret = failf(errno, "%s: cannot be written to disk: %s", dir->path, strerror(errno));
	if (ret == 0 && !snapshot_dir_same(old->fd, dir->path))
		ret = failf(EEXIST, "%s: was changed by another meanwhile; the snapshot is dropped",
			    dir->path);
	if (ret == 0)
		ret = exchange_names(dir, parent_fd, old);
	if (ret < 0 && !old->torn)
		unlinkat(old->fd, SNAPSHOT_UNFINISHED, 0);
	return ret;
}
