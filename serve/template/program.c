/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Installed programs (serve/template/program.h). Their environment is made here, because TAR_OPTIONS,
 * ZSTD_CLEVEL or a language would change what they do and say.
 */
#include "serve/template/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"

#define PROGRAM_PATH   "/usr/local/bin:/usr/bin:/bin" /* where PATH is not set */
#define PROGRAM_DIR_FD 3
#define PROGRAM_LINE   256

static int program_spawn(struct program *p, const char *const argv[], char *const env[],
			 const int fds[3], int dir_fd)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t ignored;
	int err;

	sigemptyset(&ignored); /* by us, arch/base/signals.h */
	sigaddset(&ignored, SIGPIPE);
	sigaddset(&ignored, SIGXFSZ);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++) /* /dev/null need not be there */
		posix_spawn_file_actions_adddup2(&actions, io_waiting(fds[fds[i] < 0 ? 2 : i]), i);
	if (dir_fd >= 0) {
		posix_spawn_file_actions_adddup2(&actions, dir_fd, PROGRAM_DIR_FD);
		posix_spawn_file_actions_addfchdir_np(&actions, PROGRAM_DIR_FD);
	}
	err = posix_spawnp(&p->pid, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (err)
		p->pid = 0;
	return -err;
}

int program_start(struct program *p, const char *const argv[], int in_fd, int out_fd, int dir_fd)
{
	const char *path = getenv("PATH");
	char language[] = "LC_ALL=C", *path_text;
	int fds[3] = { in_fd, out_fd, -1 }, ret;

	*p = (struct program){ .name = argv[0] };
	if (asprintf(&path_text, "PATH=%s", path ? path : PROGRAM_PATH) < 0)
		return failf(ENOMEM, "out of memory");
	fds[2] = memfd_create("stderr", MFD_CLOEXEC);
	if (fds[2] < 0) {
		ret = failf(errno, "%s: no file for what it says: %s", p->name, strerror(errno));
	} else {
		char *env[] = { path_text, language, NULL };

		ret = program_spawn(p, argv, env, fds, dir_fd);
		if (ret == -ENOENT)
			failf(ENOENT, "%s is not installed; install the package %s", p->name,
			      p->name);
		else if (ret < 0)
			failf(-ret, "%s cannot be started: %s", p->name, strerror(-ret));
	}
	free(path_text);
	p->said_fd = fds[2];
	if (ret < 0 && fds[2] >= 0)
		close(fds[2]);
	return ret;
}

int program_said(const struct program *p)
{
	char line[PROGRAM_LINE] = "";
	ssize_t len = pread(p->said_fd, line, sizeof(line) - 1, 0);

	line[len > 0 ? len : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	for (len = (ssize_t)strlen(line); len > 0 && line[len - 1] == ' '; len--)
		line[len - 1] = '\0';
	return line[0] ? failf(EIO, "%s says '%s'", p->name, line) : 0;
}

static int program_failed(const struct program *p, int status)
{
	int ret = program_said(p);

	if (ret < 0)
		return ret;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ)
		return failf(EFBIG, "%s: %s", p->name, write_error(EFBIG));
	if (WIFSIGNALED(status))
		return failf(EIO, "%s was ended by signal %d", p->name, WTERMSIG(status));
	return failf(EIO, "%s ended with status %d", p->name, WEXITSTATUS(status));
}

static int program_wait(struct program *p, int *status)
{
	int ret = 0;

	while (ret == 0 && waitpid(p->pid, status, 0) < 0)
		if (errno != EINTR)
			ret = failf(errno, "%s: how it ended cannot be had: %s", p->name,
				    strerror(errno));
	p->pid = 0;
	return ret;
}

int program_end(struct program *p)
{
	int status = 0, ret;

	if (!p->pid)
		return 0;
	ret = program_wait(p, &status);
	if (ret == 0 && status)
		ret = program_failed(p, status);
	close(p->said_fd);
	return ret;
}

void program_kill(struct program *p)
{
	int status;

	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	program_wait(p, &status);
	close(p->said_fd);
}
