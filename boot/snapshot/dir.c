/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a snapshot directory (boot/snapshot/dir.h), from its claim to its name.
 */
#include "boot/snapshot/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"
#include "boot/snapshot/files.h"
#include "boot/snapshot/state.h"

#define DIR_ATTEMPTS 16 /* at a directory that others make and remove meanwhile */
#define DIR_DIR_MODE 0700

/* --- Claim --- */

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
	if (ret > 0)
		return 0;
	close(dir->dir_fd);
	dir->dir_fd = -1;
	return ret < 0 ? ret : -EAGAIN;
}

/* -EEXIST with a sentence unless the directory PATH behind fd is a snapshot and nothing else. */
static int snapshot_dir_check_old(const struct snapshot_dir *dir, int fd)
{
	int ret = snapshot_dir_check_known(fd, dir->path), state_fd;
	uint64_t magic = 0;

	if (ret < 0)
		return ret;
	state_fd = openat(fd, "state", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (state_fd < 0 || read(state_fd, &magic, sizeof(magic)) != sizeof(magic) ||
	    magic != STATE_MAGIC)
		ret = failf(
			EEXIST,
			"%s: exists already and is no snapshot, so it is not replaced; remove it "
			"or name another",
			dir->path);
	if (state_fd >= 0)
		close(state_fd);
	return ret;
}

/* Opens the snapshot that PATH is and that may be replaced. *fd is -1 when nothing has that name. */
static int snapshot_dir_open_old(const struct snapshot_dir *dir, int *fd)
{
	int ret;

	*fd = -1;
	if (!dir->replace)
		return 0;
	*fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0 && errno == ENOENT)
		return 0;
	if (*fd < 0)
		return errno == ENOTDIR || errno == ELOOP
			       ? failf(EEXIST,
				       "%s: exists already and is no directory; remove it or name "
				       "another",
				       dir->path)
			       : failf(errno, "%s: cannot be opened: %s", dir->path,
				       strerror(errno));
	ret = snapshot_dir_check_old(dir, *fd);
	if (ret < 0) {
		close(*fd);
		*fd = -1;
	}
	return ret;
}

/* Whether PATH can be given in the end, as far as one can know now. */
static int snapshot_dir_check_free(const struct snapshot_dir *dir)
{
	struct stat st;
	int ret, fd;

	if (dir->replace) {
		ret = snapshot_dir_open_old(dir, &fd);
		if (fd >= 0)
			close(fd);
		return ret;
	}
	if (lstat(dir->path, &st) == 0)
		return failf(EEXIST,
			     "%s: exists already; a snapshot never replaces, so remove it or name "
			     "another",
			     dir->path);
	if (errno != ENOENT)
		return failf(errno, "%s: cannot be made: %s", dir->path, strerror(errno));
	return 0;
}

int snapshot_dir_open(struct snapshot_dir *dir, const char *path, bool replace)
{
	int ret = snapshot_dir_name(dir, path);

	dir->replace = replace;
	if (ret == 0)
		ret = snapshot_dir_check_free(dir);
	for (unsigned i = 0; ret == 0 && dir->dir_fd < 0; i++) {
		ret = snapshot_dir_claim(dir);
		if (ret == -EAGAIN)
			ret = i < DIR_ATTEMPTS ? 0
					       : failf(EBUSY, "%s: others make and remove it too",
						       dir->tmp_path);
	}
	if (ret < 0)
		snapshot_dir_close(dir);
	return ret;
}

/* --- Files --- */

static int snapshot_dir_open_file(const struct snapshot_dir *dir, const char *name)
{
	int fd = openat(dir->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			SNAPSHOT_FILE_MODE);

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
				    dir->tmp_path, name, len, write_error(n < 0 ? errno : ENOSPC));
	}
	close(fd);
	return ret;
}

int snapshot_dir_unfinished(const struct snapshot_dir *dir)
{
	return snapshot_dir_mark(dir->dir_fd, dir->tmp_path);
}

int snapshot_dir_files(struct snapshot_dir *dir, const char *config, size_t config_len)
{
	int ret = snapshot_dir_add(dir, "config", config, config_len);

	if (ret == 0)
		ret = dir->state_fd = snapshot_dir_open_file(dir, "state");
	if (ret >= 0)
		ret = dir->memory_fd = snapshot_dir_open_file(dir, "memory");
	if (ret >= 0)
		return 0;
	snapshot_dir_abort(dir);
	return ret;
}

int snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			size_t config_len)
{
	int ret = snapshot_dir_open(dir, path, false);

	return ret < 0 ? ret : snapshot_dir_files(dir, config, config_len);
}

/* --- The name --- */

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

/* All files, the directory, and the one that it lies in, which is opened. */
static int snapshot_dir_sync_all(const struct snapshot_dir *dir, int *parent_fd)
{
	int ret = 0;

	/* All on their way at once: the first fsync then commits what the others need too. */
	sync_file_range(dir->memory_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	sync_file_range(dir->state_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	for (size_t i = 0; i < SNAPSHOT_FILES && ret == 0; i++)
		ret = snapshot_dir_sync(dir, snapshot_files[i].name, snapshot_files[i].optional);
	if (ret == 0)
		ret = snapshot_dir_sync(dir, ".", false);
	if (ret < 0)
		return ret;
	*parent_fd = openat(dir->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*parent_fd < 0)
		return failf(errno, "%s: its directory cannot be opened: %s", dir->path,
			     strerror(errno));
	return 0;
}

/* PATH.tmp takes the name PATH, which nobody has. */
static int snapshot_dir_rename(const struct snapshot_dir *dir)
{
	int ret = rename_dir_no_replace(dir->tmp_path, dir->path);

	if (ret == 0)
		return 0;
	if (ret == -EEXIST)
		return failf(EEXIST, "%s: was made by another meanwhile; the snapshot is dropped",
			     dir->path);
	return failf(-ret, "%s: cannot be renamed to %s: %s", dir->tmp_path, dir->path,
		     strerror(-ret));
}

/* The snapshot is whole and has its name; only a crash of the host could lose that now. */
static int snapshot_dir_settle(struct snapshot_dir *dir, int parent_fd,
			       struct snapshot_dir_old *old)
{
	int ret = 0;

	/* Before that is ruled out, what it replaces is not touched. */
	if (fsync(parent_fd) < 0)
		ret = failf(errno, "%s: its name cannot be written to disk: %s", dir->path,
			    strerror(errno));
	else if (old->path && snapshot_dir_remove_said(old->fd, old->path) < 0)
		notef("%s", error_text());
	/* It means nothing under the final name. */
	unlinkat(dir->dir_fd, SNAPSHOT_UNFINISHED, 0);
	snapshot_dir_close(dir);
	return ret;
}

int snapshot_dir_commit(struct snapshot_dir *dir)
{
	struct snapshot_dir_old old = { .fd = -1 };
	int parent_fd = -1;
	int ret = snapshot_dir_sync_all(dir, &parent_fd);

	if (ret == 0 && !snapshot_dir_same(dir->dir_fd, dir->tmp_path))
		ret = failf(ENOENT, "%s: went away while the snapshot was written", dir->tmp_path);
	if (ret == 0)
		ret = snapshot_dir_open_old(dir, &old.fd);
	if (ret == 0)
		ret = old.fd >= 0 ? snapshot_dir_exchange(dir, parent_fd, &old)
				  : snapshot_dir_rename(dir);
	if (ret == 0)
		ret = snapshot_dir_settle(dir, parent_fd, &old);
	else if (old.torn)
		snapshot_dir_close(dir);
	else
		snapshot_dir_abort(dir);
	free(old.path);
	if (old.fd >= 0)
		close(old.fd);
	if (parent_fd >= 0)
		close(parent_fd);
	return ret;
}

void snapshot_dir_abort(struct snapshot_dir *dir)
{
	/* FUSE and NFS keep a file that is unlinked while it is open, under another name. */
	snapshot_dir_close_files(dir);
	/* The sentence that is stored says why it came to this: keep it. */
	if (dir->dir_fd >= 0 && dir->tmp_path) {
		for (size_t i = 0; i < SNAPSHOT_FILES; i++)
			unlinkat(dir->dir_fd, snapshot_files[i].name, 0);
		if (snapshot_dir_same(dir->dir_fd, dir->tmp_path))
			rmdir(dir->tmp_path);
	}
	snapshot_dir_close(dir);
}
