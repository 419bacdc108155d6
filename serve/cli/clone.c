/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga clone` (serve/cli/command.h). A single clone that needs nothing later runs in
 * this process; otherwise each clone is a child that sends its answer back as one
 * MESSAGE_ANSWER and says everything else by its exit status.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/base64.h"
#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/io.h"
#include "serve/cli/command.h"
#include "serve/cli/output.h"
#include "serve/cli/run.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "serve/ipc/payload.h"
#include "vmm.h"

/* One clone as its parent sees it. */
struct clone {
	pid_t pid;  /* 0 when reaped */
	int fd;     /* of the pair that brings its answer; -1 when done */
	bool said;  /* its line is printed */
	int status; /* exit status */
};

struct clones {
	const struct options *options;
	const struct machine_options *base;
	struct clone *list;
	unsigned count;
	unsigned alive;
	int signal_fd;
	bool ending; /* the clones were told to end */
	bool unread; /* a signal came while nobody read stdout: nothing more is printed */
	int lost;    /* errno of the first line that could not be printed */
};

/* --- In a clone --- */

/* Where a clone sends its answer: to its parent, with the time since it was started. */
struct clone_sink {
	int fd;
	uint64_t start_us;
};

static int clone_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct clone_sink *sink = opaque;
	struct message m;

	message_init(&m, MESSAGE_ANSWER);
	m.value = type;
	m.id = monotonic_us() - sink->start_us;
	return payload_send(sink->fd, &m, data, len);
}

/* Each clone's sockets have paths of its own: PATH.i. */
static int clone_paths(struct config *config, unsigned number)
{
	char name[4096];
	int ret = 0;

	if (config->control) {
		snprintf(name, sizeof(name), "%s.%u", config->control, number);
		ret = config_set(config, "control", name);
	}
	for (unsigned i = 0; ret == 0 && i < config->devices.count; i++) {
		struct device_spec *spec = &config->devices.list[i];
		const char *key, *path = device_spec_answer(spec, DEVICE_CONNECT, &key);
		json_t *text = path ? json_sprintf("%s.%u", path, number) : NULL;

		if (path)
			ret = device_spec_set(spec, key, text);
		json_decref(text);
	}
	return ret;
}

/* The request with %i replaced by the clone's number. Owned by the caller. */
static char *clone_request_text(const char *request, unsigned number)
{
	size_t size = strlen(request) * 6 + 1, at = 0;
	char *text = malloc(size);

	for (const char *p = request; text && *p; p++) {
		if (p[0] == '%' && p[1] == 'i') {
			at += (size_t)snprintf(text + at, size - at, "%u", number);
			p++;
		} else {
			text[at++] = *p;
		}
	}
	if (text)
		text[at] = 0;
	return text;
}

/* Clone `number` in this process, its answer through `answer`. Returns the exit status. */
static int clone_main(const struct options *options, const struct machine_options *base,
		      unsigned number, struct machine_request *request)
{
	struct machine_options machine = *base;
	struct config config;
	char *text = NULL;
	int status = STATUS_VIRGA;

	config_init(&config);
	machine.config = &config;
	machine.clone_number = number;
	machine.one_of_many = options->clones > 1;
	if (run_override(&config, &options->config) < 0 || clone_paths(&config, number) < 0)
		goto say;
	if (options->request) {
		text = clone_request_text(options->request, number);
		if (!text) {
			failf(ENOMEM, "out of memory");
			goto say;
		}
		request->data = text;
		request->len = strlen(text);
		request->timeout_ms = options->timeout_ms;
		request->keep = options->keep;
		machine.request = request;
	}
	status = run_supervised(&machine);
	free(text);
	config_fini(&config);
	return status;

say:
	notef("clone %u: %s", number, error_text());
	config_fini(&config);
	return status;
}

/* --- In the parent --- */

static void clones_end(struct clones *c);

/*
 * A line to stdout at once, so that a reader learns of an answer when there is one. While the reader
 * does not read, a signal still ends the clones; what could not be printed then is not.
 */
static void clones_write(struct clones *c, char *text, int len)
{
	struct output line = { .data = text, .len = len < 0 ? 0 : (size_t)len };
	int ret = len < 0 ? failf(ENOMEM, "out of memory") : 0;

	if (ret == 0 && !c->lost && !c->unread)
		ret = output_write(&line);
	if (ret == -EINTR) {
		c->unread = true;
		notef("%s", error_text());
		clones_end(c);
	} else if (ret < 0) {
		c->lost = -ret;
	}
	free(len < 0 ? NULL : text);
}

/* One line for a clone: its answer as text, or an object with --json. */
static void clones_print(struct clones *c, unsigned number, int status, const void *answer,
			 size_t len, uint64_t us)
{
	char *base64, *text = NULL;
	int n;

	c->list[number].said = true;
	if (!c->options->json) {
		if (!answer)
			return;
		n = asprintf(&text, "clone %u: %.*s\n", number, (int)len, (const char *)answer);
		clones_write(c, text, n);
		return;
	}
	base64 = base64_encode(answer ? answer : "", len);
	if (base64 && answer)
		n = asprintf(&text,
			     "{\"clone\": %u, \"status\": %d, \"answer_base64\": \"%s\", "
			     "\"us\": %" PRIu64 "}\n",
			     number, status, base64, us);
	else
		n = asprintf(&text,
			     "{\"clone\": %u, \"status\": %d, \"answer_base64\": null, "
			     "\"us\": null}\n",
			     number, status);
	clones_write(c, text, n);
	free(base64);
}

/* Something came from a clone: its answer, or the end of its side. */
static void clones_receive(struct clones *c, unsigned number)
{
	struct clone *clone = &c->list[number];
	struct message m;
	void *data;
	size_t len;

	if (message_receive(clone->fd, &m) != 1) {
		close(clone->fd);
		clone->fd = -1;
		return;
	}
	if (m.type == MESSAGE_ANSWER && !clone->said) {
		if (payload_take(&m, &data, &len) == 0)
			clones_print(c, number, m.value == CHANNEL_ERROR, data, len, m.id);
		else
			notef("clone %u: %s", number, error_text());
		free(data);
	}
	message_close_fds(&m);
}

static void clones_reap(struct clones *c)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < c->count; i++) {
			struct clone *clone = &c->list[i];

			if (clone->pid != pid)
				continue;
			clone->pid = 0;
			clone->status = WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_VIRGA;
			if (WIFSIGNALED(status))
				notef("clone %u was killed by signal %d (%s)", i, WTERMSIG(status),
				      strsignal(WTERMSIG(status)));
			c->alive--;
			break;
		}
	}
}

static void clones_end(struct clones *c)
{
	c->ending = true;
	for (unsigned i = 0; i < c->count; i++)
		if (c->list[i].pid > 0)
			kill(c->list[i].pid, SIGTERM);
}

static void clones_signals(struct clones *c)
{
	struct signalfd_siginfo info;

	while (read(c->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			clones_reap(c);
		else if (!c->ending) {
			notef("ending the clones by %s", signal_name((int)info.ssi_signo));
			clones_end(c);
		}
	}
}

/* In clone `number`: what leads to the others is none of its business. */
static void clones_forget(const struct clones *c, unsigned number)
{
	close(c->signal_fd);
	for (unsigned i = 0; i < number; i++)
		if (c->list[i].fd >= 0)
			close(c->list[i].fd);
}

/* A clone that is to be started. */
struct clone_start {
	const struct clones *clones;
	unsigned number;
	uint64_t start_us;
};

static int clone_child(void *opaque, int fd)
{
	const struct clone_start *start = opaque;
	const struct clones *c = start->clones;
	struct clone_sink sink = { .fd = fd, .start_us = start->start_us };
	struct machine_request request = { .answer = clone_answer, .opaque = &sink };

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	clones_forget(c, start->number);
	return clone_main(c->options, c->base, start->number, &request);
}

static int clones_start(struct clones *c, unsigned number)
{
	struct clone_start start = { .clones = c, .number = number, .start_us = monotonic_us() };
	struct child child;
	int ret = child_start(&child, clone_child, &start);

	if (ret < 0)
		return failf(-ret, "clone %u: %s", number, error_text());
	c->list[number].pid = child.pid;
	c->list[number].fd = child.fd;
	c->alive++;
	return 0;
}

/* Serves answers and ends until every clone is gone and its answer was read. */
static int clones_wait(struct clones *c)
{
	struct pollfd *fds = calloc(c->count + 1, sizeof(*fds));
	unsigned *numbers = calloc(c->count + 1, sizeof(*numbers));
	unsigned open = c->count;
	int ret = fds && numbers ? 0 : failf(ENOMEM, "out of memory");

	while (ret == 0 && (c->alive || open)) {
		unsigned n = 1;

		fds[0] = (struct pollfd){ .fd = c->signal_fd, .events = POLLIN };
		for (unsigned i = 0; i < c->count; i++) {
			if (c->list[i].fd < 0)
				continue;
			numbers[n] = i;
			fds[n++] = (struct pollfd){ .fd = c->list[i].fd, .events = POLLIN };
		}
		open = n - 1;
		if (!c->alive && !open)
			break;
		if (poll(fds, n, -1) < 0 && errno != EINTR)
			ret = failf(errno, "poll: %s", strerror(errno));
		for (unsigned i = 1; ret == 0 && i < n; i++)
			if (fds[i].revents)
				clones_receive(c, numbers[i]);
		clones_signals(c);
	}
	free(fds);
	free(numbers);
	return ret;
}

/* Largest status of all, after a line for those that never answered. */
static int clones_result(struct clones *c)
{
	int largest = 0;

	for (unsigned i = 0; i < c->count; i++) {
		if (!c->list[i].said && c->options->json)
			clones_print(c, i, c->list[i].status, NULL, 0, 0);
		if (c->list[i].status > largest)
			largest = c->list[i].status;
	}
	return largest;
}

static int clones_signal_fd(void)
{
	sigset_t set;

	vm_block_signals();
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int clones_run_many(struct clones *c)
{
	int ret = 0, status;

	io_raise_limit(); /* each clone takes a descriptor */
	c->list = calloc(c->count, sizeof(*c->list));
	c->signal_fd = clones_signal_fd();
	if (!c->list || c->signal_fd < 0) {
		free(c->list);
		notef("clone: %s", strerror(errno));
		return STATUS_VIRGA;
	}
	for (unsigned i = 0; i < c->count; i++)
		c->list[i].fd = -1;
	for (unsigned i = 0; ret == 0 && i < c->count; i++)
		ret = clones_start(c, i);
	if (ret < 0) {
		notef("%s", error_text());
		clones_end(c);
	}
	status = ret < 0 ? STATUS_VIRGA : 0;
	if (clones_wait(c) < 0) {
		notef("%s", error_text());
		status = STATUS_VIRGA;
	}
	ret = clones_result(c);
	if (c->lost) {
		notef("clone: cannot write the answers to standard output: %s",
		      write_error(c->lost));
		clearerr(stdout);
		status = STATUS_VIRGA;
	}
	close(c->signal_fd);
	free(c->list);
	return status > ret ? status : ret;
}

static int clones_run(const struct options *options, const struct machine_options *base)
{
	struct clones c = { .options = options, .base = base, .count = options->clones };
	struct output output = { .line = true };
	struct machine_request request = {
		.answer = output_keep,
		.deliver = output_write,
		.opaque = &output,
	};
	int status;

	if (options->clones > 1 || options->json || options->keep)
		return clones_run_many(&c);
	status = clone_main(options, base, 0, &request);
	output_free(&output);
	return status;
}

int clone_command(const struct options *options)
{
	return run_from_snapshot(options, options->args[0], "clone", true, clones_run);
}
