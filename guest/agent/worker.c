/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting, feeding, reading and killing the process of a request; see worker.h.
 */
#include "guest/agent/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_SIZE 65536u

extern char **environ;

static void worker_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void worker_init(struct worker *w)
{
	*w = (struct worker){ .in = -1, .out = -1, .err = -1 };
}

/* Our end does not block; neither is inherited by accident. */
static int worker_pipe(int *ours, int *theirs, bool we_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	*ours = fds[we_write];
	*theirs = fds[!we_write];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

/* posix_spawn: the agent's memory is not copied, which a clone would pay for by the page. */
static int worker_spawn(struct worker *w, char *const argv[], const int fds[3])
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, ignored;
	int ret;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, fds[i], i);
	ret = posix_spawnp(&w->pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (ret)
		w->pid = 0;
	return -ret;
}

int worker_start(struct worker *w, char *const argv[], bool input_wanted)
{
	int fds[3] = { -1, -1, -1 }, ret = 0;

	w->exited = false;
	w->tail_len = 0;
	buffer_clear(&w->output);
	if (input_wanted) {
		ret = worker_pipe(&w->in, &fds[0], true);
	} else {
		fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fds[0] < 0)
			ret = -errno;
	}
	if (ret == 0)
		ret = worker_pipe(&w->out, &fds[1], false);
	if (ret == 0)
		ret = worker_pipe(&w->err, &fds[2], false);
	if (ret == 0)
		ret = worker_spawn(w, argv, fds);
	for (int i = 0; i < 3; i++)
		worker_close(&fds[i]);
	if (ret)
		worker_kill(w);
	return ret;
}

void worker_feed(struct worker *w, bool keep)
{
	while (w->in >= 0 && buffer_len(&w->input) > 0) {
		ssize_t n = write(w->in, buffer_data(&w->input), buffer_len(&w->input));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* A command need not read its input: that it does not is no error. */
		if (n < 0)
			worker_close(&w->in);
		else
			buffer_consume(&w->input, (size_t)n);
	}
	buffer_clear(&w->input);
	if (!keep)
		worker_close(&w->in);
}

ssize_t worker_read(struct worker *w, size_t max)
{
	uint8_t *room;
	ssize_t n;

	if (w->out < 0)
		return 0;
	room = buffer_room(&w->output, READ_SIZE);
	if (!room)
		return -ENOMEM;
	n = read(w->out, room, READ_SIZE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		worker_close(&w->out);
		return 0;
	}
	w->output.end += (size_t)n;
	return buffer_len(&w->output) > max ? -EMSGSIZE : n;
}

size_t worker_read_errors(struct worker *w, char *data, size_t size)
{
	ssize_t n;
	size_t keep, old;

	if (w->err < 0)
		return 0;
	n = read(w->err, data, size);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		worker_close(&w->err);
		return 0;
	}
	keep = (size_t)n < WORKER_TAIL_MAX ? (size_t)n : WORKER_TAIL_MAX;
	old = w->tail_len < WORKER_TAIL_MAX - keep ? w->tail_len : WORKER_TAIL_MAX - keep;
	memmove(w->tail, w->tail + w->tail_len - old, old);
	memcpy(w->tail + old, data + n - keep, keep);
	w->tail_len = old + keep;
	return (size_t)n;
}

void worker_kill(struct worker *w)
{
	/* A group outlives its leader; the number cannot be another's while a member lives. */
	if (w->pid > 0 && !w->exited)
		kill(-w->pid, SIGKILL);
	w->pid = 0;
	worker_close(&w->in);
	worker_close(&w->out);
	worker_close(&w->err);
	buffer_clear(&w->input);
	buffer_clear(&w->output);
}

void worker_describe(const struct worker *w, char *text, size_t size)
{
	size_t len = w->tail_len;
	const char *colon;

	while (len > 0 && (w->tail[len - 1] == '\n' || w->tail[len - 1] == ' '))
		len--;
	colon = len > 0 ? ": " : "";
	if (WIFSIGNALED(w->status))
		snprintf(text, size, "was killed by signal %d%s%.*s", WTERMSIG(w->status), colon,
			 (int)len, w->tail);
	else
		snprintf(text, size, "ended with status %d%s%.*s", WEXITSTATUS(w->status), colon,
			 (int)len, w->tail);
}
