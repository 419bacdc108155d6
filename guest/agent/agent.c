/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virga's agent for Linux guests: connects to the VMM by vsock, says READY, and
 * answers requests (docs/function-channel.md) with the output of a command. As process 1 it sets
 * the machine up first and powers it off in the end. This file: options and the poll loop.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/agent/init.h"
#include "guest/agent/serve.h"

#define RECONNECT_MS 50

static const char usage[] =
	"Usage: agent [--fd N] [[--wait] --handler CMD ARG... | --exec CMD ARG...]\n"
	"Answers requests of virga's function channel: with the output of /bin/sh -c REQUEST,\n"
	"of CMD with the request on its stdin (--exec), or of one CMD that stays and speaks\n"
	"messages of a length and an id, little-endian and of 32 bits each, and as many bytes,\n"
	"an answer with the id of its request (--handler).\n"
	"  --wait  the handler is ready after a message without bytes and with id 0; then READY\n"
	"  --fd N  use this socket instead of vsock\n"
	"Kernel command line: virga.exec=PATH, virga.handler=PATH, virga.wait=1.\n";

/* False: usage is to be printed. */
static bool options_parse(struct options *o, int argc, char **argv)
{
	int i = 1;

	o->fd = -1;
	for (; i < argc; i++) {
		if (strcmp(argv[i], "--fd") == 0 && i + 1 < argc)
			o->fd = atoi(argv[++i]);
		else if (strcmp(argv[i], "--wait") == 0)
			o->wait = true;
		else
			break;
	}
	if (i == argc)
		return true;
	o->handler = strcmp(argv[i], "--handler") == 0;
	if ((!o->handler && strcmp(argv[i], "--exec") != 0) || i + 1 == argc)
		return false;
	o->argv = argv + i + 1;
	return true;
}

/* The kernel's command line speaks where the program's says nothing. */
static void options_kernel(struct options *o)
{
	char *exec = init_option("virga.exec"), *handler = init_option("virga.handler");
	char *wait = init_option("virga.wait"), *command = handler ? handler : exec;
	char **argv;

	if (!o->argv && command) {
		argv = calloc(2, sizeof(*argv));
		if (argv) {
			argv[0] = strdup(command);
			o->argv = argv;
			o->handler = handler != NULL;
			o->wait = wait && strcmp(wait, "1") == 0;
		}
	}
	free(exec);
	free(handler);
	free(wait);
}

/* Reaps children, also those that process 1 inherits. False: an end is asked for. */
static bool agent_signals(struct agent *a, int signals)
{
	struct signalfd_siginfo info;
	bool go_on = true;
	int status;
	pid_t pid;

	while (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			go_on = false;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != a->worker.pid)
			continue;
		a->worker.exited = true;
		a->worker.status = status;
	}
	return go_on;
}

static int agent_timeout_ms(const struct agent *a)
{
	uint64_t now = channel_now_us();

	if (a->channel.fd < 0)
		return RECONNECT_MS;
	if (!a->busy || a->deadline_us == 0)
		return -1;
	if (a->deadline_us <= now)
		return 0;
	return a->deadline_us - now > 60000000 ? 60000 : (int)((a->deadline_us - now) / 1000) + 1;
}

/* 0; -EAGAIN: not yet; another -errno when there is no point in going on. */
static int agent_connect(struct agent *a)
{
	int fd = a->options.fd >= 0 ? a->options.fd : channel_connect();

	if (fd < 0)
		return -EAGAIN;
	channel_open(&a->channel, fd);
	agent_opened(a);
	return 0;
}

/* The host is gone or talks nonsense. An inherited socket cannot be had again. */
static bool agent_disconnected(struct agent *a, int err)
{
	if (err != -EPIPE && err != -ECONNRESET)
		fprintf(stderr, "virga-agent: function channel: %s\n", strerror(-err));
	channel_close(&a->channel);
	agent_abandon(a);
	return a->options.fd < 0;
}

static bool agent_turn(struct agent *a, int signals)
{
	struct worker *w = &a->worker;
	bool out_waits = buffer_len(&a->channel.out) > 0, in_waits = buffer_len(&w->input) > 0;
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = a->channel.fd, .events = (short)(POLLIN | (out_waits ? POLLOUT : 0)) },
		{ .fd = in_waits ? w->in : -1, .events = POLLOUT },
		{ .fd = w->out, .events = POLLIN },
		{ .fd = buffer_len(&a->channel.out) > CHANNEL_PAYLOAD_MAX ? -1 : w->err,
		  .events = POLLIN },
	};
	int ret = 0;

	if (poll(fds, sizeof(fds) / sizeof(fds[0]), agent_timeout_ms(a)) < 0 && errno != EINTR)
		return false;
	if (fds[4].revents)
		agent_errors(a);
	if (fds[3].revents)
		agent_output(a);
	if (fds[2].revents)
		worker_feed(w, a->options.handler);
	if (fds[0].revents && !agent_signals(a, signals))
		return false;
	if (w->pid != 0 && w->exited)
		agent_worker_ended(a);
	agent_check_deadline(a);
	if (a->channel.fd >= 0 && fds[1].revents & (POLLIN | POLLHUP | POLLERR))
		ret = channel_read(&a->channel, agent_message, a);
	if (ret == 0)
		ret = channel_write(&a->channel);
	if (ret)
		return agent_disconnected(a, ret);
	return true;
}

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	struct agent agent = { .channel = { .fd = -1 } };
	bool first = getpid() == 1, go_on = true;
	int signals;

	if (!options_parse(&agent.options, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	if (first)
		init_machine();
	if (agent.options.fd < 0)
		options_kernel(&agent.options);
	worker_init(&agent.worker);
	signals = signals_open();
	if (signals < 0) {
		perror("virga-agent: signalfd");
		return 1;
	}
	while (go_on) {
		if (agent.channel.fd < 0)
			(void)agent_connect(&agent);
		go_on = agent_turn(&agent, signals);
	}
	worker_kill(&agent.worker);
	channel_close(&agent.channel);
	if (first)
		init_power_off();
	return 0;
}
