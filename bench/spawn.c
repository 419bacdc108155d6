/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts commands over and over, in turn, and says how long each took from just
 * before posix_spawn(3) to what is waited for, and from SIGTERM to its end. The plan comes on
 * stdin (bench/measure.py writes it), a JSON object a sample goes to stdout. What a figure means
 * is not decided here.
 *
 *   rounds N                 each command so often, one after the other
 *   command NAME             begins a command; the lines below belong to it
 *   arg TEXT                 one argument; %n in it becomes the number of the round
 *   input TEXT               what its stdin holds, then end of file; without it /dev/null
 *   cold DIR                 before each start the page cache forgets the files of DIR
 *   until byte|exit          the first byte on its stdout, or its end
 *   grace MS                 let it run on so long, then end it
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 16
#define ARGS_MAX     64
#define TIMEOUT_MS   20000
#define SETTLE_MS    3 /* the kernel takes a closed VM apart a little after its end */

enum until { UNTIL_BYTE, UNTIL_EXIT };

struct command {
	char *name;
	char *args[ARGS_MAX];
	unsigned arg_count;
	char *input;
	char *cold;
	enum until until;
	unsigned grace_ms;
};

struct plan {
	unsigned rounds;
	unsigned count;
	struct command commands[COMMANDS_MAX];
};

struct child {
	pid_t pid;
	int pidfd;
	int out_fd;
	int err_fd;
	int status;
};

extern char **environ;

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void sleep_us(unsigned us)
{
	struct timespec ts = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&ts, NULL);
}

static void die(const char *what)
{
	fprintf(stderr, "spawn: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- The plan --- */

static void plan_line(struct plan *plan, char *line)
{
	char *value = strchr(line, ' ');
	struct command *c = plan->count ? &plan->commands[plan->count - 1] : NULL;

	errno = EINVAL;
	if (!value)
		die(line);
	*value++ = 0;
	if (!strcmp(line, "rounds")) {
		plan->rounds = (unsigned)atoi(value);
	} else if (!strcmp(line, "command") && plan->count < COMMANDS_MAX) {
		plan->commands[plan->count++].name = strdup(value);
	} else if (!c) {
		die(line);
	} else if (!strcmp(line, "arg") && c->arg_count + 1 < ARGS_MAX) {
		c->args[c->arg_count++] = strdup(value);
	} else if (!strcmp(line, "input")) {
		c->input = strdup(value);
	} else if (!strcmp(line, "cold")) {
		c->cold = strdup(value);
	} else if (!strcmp(line, "grace")) {
		c->grace_ms = (unsigned)atoi(value);
	} else if (!strcmp(line, "until") && !strcmp(value, "byte")) {
		c->until = UNTIL_BYTE;
	} else if (!strcmp(line, "until") && !strcmp(value, "exit")) {
		c->until = UNTIL_EXIT;
	} else {
		die(line);
	}
}

static void plan_read(struct plan *plan)
{
	static char line[4096];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0])
			plan_line(plan, line);
	}
}

/* --- A child --- */

/* The arguments with %n replaced. */
static void command_args(const struct command *c, unsigned round, char **argv)
{
	static char texts[ARGS_MAX][4096];

	for (unsigned i = 0; i < c->arg_count; i++) {
		char *mark = strstr(c->args[i], "%n");

		argv[i] = c->args[i];
		if (!mark)
			continue;
		snprintf(texts[i], sizeof(texts[i]), "%.*s%u%s", (int)(mark - c->args[i]),
			 c->args[i], round, mark + 2);
		argv[i] = texts[i];
	}
	argv[c->arg_count] = NULL;
}

static int command_stdin(const struct command *c)
{
	int fds[2];

	if (!c->input)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (pipe2(fds, O_CLOEXEC) < 0 || write(fds[1], c->input, strlen(c->input)) < 0)
		die("pipe");
	close(fds[1]);
	return fds[0];
}

/* Returns the time just before. */
static double child_start(struct child *child, const struct command *c, unsigned round)
{
	posix_spawn_file_actions_t actions;
	char *argv[ARGS_MAX];
	int in_fd = command_stdin(c), out[2];
	double start_us;

	if (in_fd < 0 || pipe2(out, O_CLOEXEC) < 0)
		die("pipe");
	child->err_fd = memfd_create("stderr", MFD_CLOEXEC);
	child->out_fd = out[0];
	command_args(c, round, argv);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in_fd, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_adddup2(&actions, child->err_fd, 2);
	start_us = now_us();
	errno = posix_spawn(&child->pid, argv[0], &actions, NULL, argv, environ);
	if (errno)
		die(argv[0]);
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	close(in_fd);
	close(out[1]);
	posix_spawn_file_actions_destroy(&actions);
	return start_us;
}

static bool child_exited(struct child *child, int timeout_ms)
{
	struct pollfd p = { .fd = child->pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1 &&
	       waitpid(child->pid, &child->status, WNOHANG) == child->pid;
}

/* Ends it and waits; the time from SIGTERM to its being reaped, or a negative number. */
static double child_end(struct child *child)
{
	double start_us = now_us();

	kill(child->pid, SIGTERM);
	if (child_exited(child, TIMEOUT_MS / 4))
		return now_us() - start_us;
	kill(child->pid, SIGKILL);
	waitpid(child->pid, &child->status, 0);
	return -1;
}

/* Bytes on its stdout within the time-out; false at its end. */
static bool child_read(struct child *child)
{
	struct pollfd p = { .fd = child->out_fd, .events = POLLIN };
	char bytes[65536];

	return poll(&p, 1, TIMEOUT_MS) == 1 && read(child->out_fd, bytes, sizeof(bytes)) > 0;
}

/* The files of a directory that nobody has mapped are on disk only afterwards. */
static void forget_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		die(path);
	while ((entry = readdir(dir)) != NULL) {
		int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || fsync(fd) < 0)
			die(entry->d_name);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	closedir(dir);
}

/* --- A sample --- */

static void print_escaped(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\' || c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
}

static void print_sample(const struct command *c, const struct child *child, double us,
			 double end_us)
{
	char text[4096];
	ssize_t len = pread(child->err_fd, text, sizeof(text), 0);

	printf("{\"name\": \"%s\", \"us\": %.1f, \"end_us\": %.1f, \"status\": %d, \"stderr\": \"",
	       c->name, us, end_us,
	       WIFEXITED(child->status) ? WEXITSTATUS(child->status) : -WTERMSIG(child->status));
	print_escaped(text, len > 0 ? (size_t)len : 0);
	printf("\"}\n");
	fflush(stdout);
}

static void sample(const struct command *c, unsigned round)
{
	struct child child = { .pid = -1 };
	double start_us, us = -1, end_us = -1;
	bool ok;

	if (c->cold)
		forget_files(c->cold);
	start_us = child_start(&child, c, round);
	if (c->until == UNTIL_EXIT) {
		while (child_read(&child))
			;
		ok = child_exited(&child, TIMEOUT_MS);
	} else {
		ok = child_read(&child);
	}
	if (ok)
		us = now_us() - start_us;
	if (c->until != UNTIL_EXIT || !ok) {
		sleep_us(c->grace_ms * 1000);
		end_us = child_end(&child);
	}
	print_sample(c, &child, us, end_us);
	close(child.out_fd);
	close(child.err_fd);
	close(child.pidfd);
	sleep_us(SETTLE_MS * 1000);
}

int main(void)
{
	static struct plan plan = { .rounds = 1 };

	plan_read(&plan);
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* sleep_us() is meant */
	for (unsigned round = 0; round < plan.rounds; round++)
		for (unsigned i = 0; i < plan.count; i++)
			sample(&plan.commands[i], round);
	return 0;
}
