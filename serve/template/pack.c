/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs, and the pipes to them and between them, through this process (serve/template/pack.h).
 */
#include "serve/template/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"
#include "serve/template/pack_check.h"
#include "serve/template/pack_tar.h"
#include "serve/template/program.h"

#define PACK_BUFFER (64u << 10)
#define PACK_FULL   (1u << 20) /* bytes free: what failed to be written did so for lack of room */

struct pack {
	const char *name;   /* of the archive */
	const char *advice; /* when it cannot be read */
	struct progress *progress;
	struct program from, to;
	int from_fd, to_fd; /* our ends of the pipes; -1 when closed */
	int full_fd;        /* on the file system that is written to */
	struct pack_check check;
};

static void pack_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- Programs --- */

/* Starts a program with a pipe to or from it; *ours is our end. */
static int pack_start(struct program *p, const char *const argv[], int fd, bool reads, int dir_fd,
		      int *ours)
{
	int pipe_fds[2], ret;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return failf(errno, "cannot make a pipe: %s", strerror(errno));
	ret = reads ? program_start(p, argv, pipe_fds[0], fd, dir_fd)
		    : program_start(p, argv, fd, pipe_fds[1], dir_fd);
	close(pipe_fds[reads ? 0 : 1]);
	*ours = pipe_fds[reads ? 1 : 0];
	return ret;
}

/* The sentence of a program that failed, with the name of what it was about and a likely reason. */
static int pack_failed(const struct pack *p, int ret)
{
	struct statvfs fs;
	/* A pipe has no blocks at all. */
	bool full = fstatvfs(p->full_fd, &fs) == 0 && fs.f_blocks &&
		    (uint64_t)fs.f_bavail * fs.f_frsize < PACK_FULL;

	return failf(-ret, "%s: %s%s", p->name, error_text(),
		     full ? "; the disk is full: make room" : "");
}

/* --- Between them --- */

/* 0 at the end, -EPIPE (no sentence) when the other program reads no more, else with a sentence. */
static int pack_copy(struct pack *p, uint8_t *buffer)
{
	bool listens = true;
	ssize_t len;
	int ret;

	while ((len = read(p->from_fd, buffer, PACK_BUFFER)) != 0) {
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return failf(errno, "%s: %s: %s", p->name, p->from.name, strerror(errno));
		ret = pack_check_feed(&p->check, buffer, (size_t)len);
		if (ret < 0)
			return ret;
		ret = listens ? io_write_all(p->to_fd, buffer, (size_t)len) : 0;
		/* tar need not read what follows the end. */
		if (ret == -EPIPE && p->check.stage == PACK_END)
			listens = false;
		else if (ret == -EPIPE)
			return ret;
		else if (ret < 0)
			return failf(-ret, "%s: %s: %s", p->name, p->to.name, strerror(-ret));
		progress_bytes(p->progress, "unpacked", p->check.memory_done,
			       p->check.memory_total);
	}
	return 0;
}

/* The end of the program that reads, after what was written to it. */
static int pack_end(struct pack *p, int written)
{
	int ret;

	pack_close(&p->to_fd);
	if (written < 0 && written != -EPIPE)
		return written;
	/* Why it does not listen is what it says itself. */
	ret = program_end(&p->to);
	if (ret < 0)
		return pack_failed(p, ret);
	return written < 0 ? failf(EPIPE, "%s: %s ended too early", p->name, p->to.name) : 0;
}

/* All that there is to copy, and both ends. */
static int pack_run(struct pack *p)
{
	uint8_t *buffer = malloc(PACK_BUFFER);
	int ret = buffer ? pack_copy(p, buffer) : failf(ENOMEM, "out of memory");

	free(buffer);
	if (ret == -EPIPE)
		return pack_end(p, ret);
	pack_close(&p->to_fd);
	/* A program that has complained knows better why it is no archive. */
	if (ret < 0 && program_said(&p->from) == 0)
		return ret;
	ret = ret < 0 ? -EIO : program_end(&p->from);
	if (ret < 0)
		return failf(-ret, "%s: %s; %s", p->name, error_text(), p->advice);
	ret = pack_check_end(&p->check);
	return ret < 0 ? ret : pack_end(p, 0);
}

static void pack_fini(struct pack *p)
{
	pack_close(&p->from_fd);
	pack_close(&p->to_fd);
	program_kill(&p->from);
	program_kill(&p->to);
	pack_check_fini(&p->check);
}

/* --- To and fro --- */

int pack_write(int dir_fd, int out_fd, const char *name, struct progress *progress)
{
	static const char *const zstd[] = { "zstd", "--quiet", "--threads=0", "--stdout", NULL };
	struct pack p = { .name = name, .from_fd = -1, .to_fd = -1, .full_fd = out_fd };
	int ret = pack_start(&p.to, zstd, out_fd, true, -1, &p.to_fd);

	if (ret == 0) {
		ret = pack_tar_write(dir_fd, p.to_fd, name, progress);
		ret = pack_end(&p, ret);
	}
	pack_fini(&p);
	return ret;
}

int pack_read(int in_fd, int dir_fd, const char *name, struct progress *progress)
{
	static const char *const zstd[] = { "zstd", "--quiet", "--decompress", "--stdout", NULL };
	static const char *const tar[] = {
		"tar",     "--extract",       "--file=-",
		"--touch", "--no-same-owner", "--no-same-permissions",
		NULL,
	};
	struct pack p = {
		.name = name,
		.advice = "copy it again, or name what 'virga template export' wrote",
		.progress = progress,
		.from_fd = -1,
		.to_fd = -1,
		.full_fd = dir_fd,
	};
	int ret;

	pack_check_init(&p.check, name);
	ret = pack_start(&p.from, zstd, in_fd, false, -1, &p.from_fd);
	if (ret == 0)
		ret = pack_start(&p.to, tar, -1, true, dir_fd, &p.to_fd);
	if (ret == 0)
		ret = pack_run(&p);
	pack_fini(&p);
	return ret;
}
