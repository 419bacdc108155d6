/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting and importing templates (serve/template/transport.h). An export is verified before the
 * first byte is written; an import is believed nothing until it lies, whole and verified, where a
 * build would have left it, and gets its name in the same way.
 */
#include "serve/template/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "serve/template/pack.h"
#include "serve/template/pack_file.h"
#include "serve/template/progress.h"

/* --- export --- */

/* Whether the directory behind dir_fd is the one that was verified. */
static int export_check_same(const struct snapshot *s, int dir_fd)
{
	struct stat verified, packed;

	if (fstat(s->memory_fd, &verified) == 0 && fstatat(dir_fd, "memory", &packed, 0) == 0 &&
	    verified.st_dev == packed.st_dev && verified.st_ino == packed.st_ino)
		return 0;
	return failf(EAGAIN, "%s: was replaced or removed meanwhile; export it again", s->path);
}

static int export_verify(const char *path, int dir_fd)
{
	struct template_facts facts;
	struct snapshot snapshot;
	int ret = snapshot_open_template(&snapshot, &facts, path);

	if (ret < 0)
		return ret;
	ret = snapshot_verify(&snapshot);
	if (ret == 0)
		ret = export_check_same(&snapshot, dir_fd);
	snapshot_close(&snapshot);
	return ret;
}

int template_export(const char *path, int fd, const char *name)
{
	struct progress progress;
	int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret;

	if (dir_fd < 0)
		return failf(errno, "%s: cannot be opened: %s", path, strerror(errno));
	progress_init(&progress, path);
	progress_say(&progress, "verifying");
	ret = export_verify(path, dir_fd);
	if (ret == 0) {
		progress_say(&progress, "packing into %s", name);
		ret = pack_write(dir_fd, fd, name, &progress);
	}
	close(dir_fd);
	return ret;
}

int template_export_file(const char *path, const char *name, bool *began)
{
	struct pack_file file;
	int ret = pack_file_create(&file, name);

	*began = ret == 0;
	if (ret < 0)
		return ret;
	ret = template_export(path, file.fd, name);
	if (ret == 0)
		return pack_file_commit(&file);
	pack_file_abort(&file);
	return ret;
}

/* --- import --- */

/* All that a start would look at before it has a machine, and the digest. */
static int import_verify(const char *name, const struct snapshot_dir *dir)
{
	struct template_facts facts;
	struct snapshot snapshot;
	int ret = snapshot_open_template(&snapshot, &facts, dir->tmp_path);

	if (ret == 0) {
		ret = snapshot_verify(&snapshot);
		snapshot_close(&snapshot);
	}
	return ret < 0 ? failf(-ret, "%s: cannot be used: %s", name, error_text()) : 0;
}

static int import_from(int fd, const char *name, struct snapshot_dir *dir)
{
	struct progress progress;
	int ret = snapshot_dir_unfinished(dir);

	progress_init(&progress, dir->path);
	progress_say(&progress, "unpacking %s", name);
	if (ret == 0)
		ret = pack_read(fd, dir->dir_fd, name, &progress);
	if (ret == 0) {
		progress_say(&progress, "verifying");
		ret = import_verify(name, dir);
	}
	if (ret == 0)
		return snapshot_dir_commit(dir);
	snapshot_dir_abort(dir);
	return ret;
}

int template_import(int fd, const char *name, const char *path, bool *began)
{
	struct snapshot_dir dir;
	int ret = snapshot_dir_open(&dir, path, true);

	*began = ret == 0;
	return ret < 0 ? ret : import_from(fd, name, &dir);
}
