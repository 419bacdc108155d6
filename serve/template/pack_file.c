/* SPDX-License-Identifier: Apache-2.0 */
/* FILE.tmp and FILE (serve/template/pack_file.h). */
#include "serve/template/pack_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"
#include "boot/snapshot/dir.h"

#define PACK_FILE_MODE  0600
#define PACK_ZSTD_MAGIC 0xfd2fb528u /* how a file of zstd begins */

static void pack_file_close(struct pack_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	free(file->path);
	free(file->tmp_path);
	file->path = file->tmp_path = NULL;
}

/* FILE.tmp is ours: nobody writes it, and it holds nothing or the beginning of an archive. */
static int pack_file_claim(const struct pack_file *file)
{
	uint32_t magic = 0;
	struct stat st;
	ssize_t len;

	if (flock(file->fd, LOCK_EX | LOCK_NB) < 0 || !snapshot_dir_same(file->fd, file->tmp_path))
		return failf(EBUSY, "%s: another export is being written to it", file->path);
	if (fstat(file->fd, &st) < 0)
		return failf(errno, "%s: %s", file->tmp_path, strerror(errno));
	/* With two names it may be an archive that is whole, whose writer died between the two. */
	len = S_ISREG(st.st_mode) && st.st_nlink == 1 ? pread(file->fd, &magic, sizeof(magic), 0)
						      : -1;
	if (len != 0 && (len != sizeof(magic) || magic != PACK_ZSTD_MAGIC))
		return failf(
			EEXIST,
			"%s: is in the way and nothing that an export has left; move or remove "
			"it",
			file->tmp_path);
	if (ftruncate(file->fd, 0) < 0 || fchmod(file->fd, PACK_FILE_MODE) < 0)
		return failf(errno, "%s: cannot be written: %s", file->tmp_path, strerror(errno));
	return 0;
}

int pack_file_create(struct pack_file *file, const char *path)
{
	struct stat st;
	int ret = snapshot_dir_check_name(path);

	*file = (struct pack_file){ .fd = -1 };
	if (ret < 0)
		return ret;
	if (lstat(path, &st) == 0)
		return failf(EEXIST, "%s: exists already; remove it or name another file", path);
	file->path = strdup(path);
	if (!file->path || asprintf(&file->tmp_path, "%s.tmp", path) < 0) {
		file->tmp_path = NULL;
		pack_file_close(file);
		return failf(ENOMEM, "out of memory");
	}
	file->fd = open(file->tmp_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			PACK_FILE_MODE);
	ret = file->fd < 0 ? failf(errno, "%s: cannot be made: %s", file->tmp_path, strerror(errno))
			   : pack_file_claim(file);
	if (ret < 0)
		pack_file_close(file);
	return ret;
}

/* The new name is on disk when the directory is. */
static int pack_file_sync_dir(const char *path)
{
	char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
	int fd, ret = 0;

	if (slash)
		slash[slash == dir] = '\0';
	fd = dir ? open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0 || fsync(fd) < 0)
		ret = failf(errno, "%s: its name cannot be written to disk: %s", path,
			    strerror(errno));
	if (fd >= 0)
		close(fd);
	free(dir);
	return ret;
}

int pack_file_commit(struct pack_file *file)
{
	int ret = 0;

	if (fsync(file->fd) < 0)
		ret = failf(errno, "%s: cannot be written to disk: %s", file->tmp_path,
			    strerror(errno));
	if (ret == 0) {
		ret = rename_file_no_replace(file->tmp_path, file->path);
		if (ret == -EINVAL)
			failf(EINVAL,
			      "%s: this file system can neither rename without replacing nor "
			      "link; name a file on another, or '-'",
			      file->path);
		else if (ret < 0)
			failf(-ret, "%s: cannot be renamed to %s: %s", file->tmp_path, file->path,
			      strerror(-ret));
	}
	if (ret < 0) {
		pack_file_abort(file);
		return ret;
	}
	ret = pack_file_sync_dir(file->path);
	pack_file_close(file);
	return ret;
}

void pack_file_abort(struct pack_file *file)
{
	if (file->fd >= 0 && snapshot_dir_same(file->fd, file->tmp_path))
		unlink(file->tmp_path);
	pack_file_close(file);
}
