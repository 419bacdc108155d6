/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting and importing templates (serve/template/transport.h). An export is verified before the
 * first byte is written; an import is believed nothing until it lies, whole and verified, where a
 * build would have left it, and gets its name in the same way.
 */
#include "serve/template/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "serve/template/pack.h"
#include "serve/template/pack_file.h"
#include "serve/template/store.h"

#define STATUS_HOST 1
#define STATUS_BAD  2

static bool pack_is_standard(const char *file)
{
	return strcmp(file, "-") == 0;
}

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

/* Verifies the template and writes it to fd. */
static int export_to(const char *path, int fd, const char *name)
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

static int export_to_file(const char *path, const char *name, int *status)
{
	struct pack_file file;
	int ret = pack_file_create(&file, name);

	if (ret < 0)
		return ret;
	*status = STATUS_HOST;
	ret = export_to(path, file.fd, name);
	if (ret == 0)
		return pack_file_commit(&file);
	pack_file_abort(&file);
	return ret;
}

static int export_to_stdout(const char *path, int *status)
{
	if (isatty(STDOUT_FILENO))
		return failf(EINVAL, "standard output is a terminal; name a file, or let a program "
				     "read it");
	*status = STATUS_HOST;
	return export_to(path, STDOUT_FILENO, "standard output");
}

int template_export_command(const struct options *options)
{
	char *path;
	int status = STATUS_BAD;
	int ret = template_store_path(options, options->args[0], false, &path);

	if (ret == 0)
		ret = pack_is_standard(options->args[1])
			      ? export_to_stdout(path, &status)
			      : export_to_file(path, options->args[1], &status);
	if (ret < 0)
		notef("template export: %s", error_text());
	free(path);
	return ret < 0 ? status : 0;
}

/* --- import --- */

/* Everything that a start, `inspect` and `template check` would look at. */
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

/* The archive, opened; it is read only when it is sure where to. */
static int import_open(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? failf(errno, "%s: cannot be opened: %s", name, strerror(errno)) : fd;
}

int template_import_command(const struct options *options)
{
	const char *name = options->args[0];
	bool standard = pack_is_standard(name);
	int fd = standard ? STDIN_FILENO : import_open(name), ret = fd, status = STATUS_BAD;
	struct snapshot_dir dir;
	char *path = NULL;

	if (ret >= 0)
		ret = template_store_path(options, options->args[1], true, &path);
	if (ret == 0)
		ret = snapshot_dir_open(&dir, path, true);
	if (ret == 0) {
		status = STATUS_HOST;
		ret = import_from(fd, standard ? "standard input" : name, &dir);
	}
	if (ret < 0)
		notef("template import: %s", error_text());
	if (fd >= 0 && !standard)
		close(fd);
	free(path);
	return ret < 0 ? status : 0;
}
