/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of the function host (serve/host/keeper.h).
 */
#include "serve/host/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/io.h"
#include "arch/base/signals.h"
#include "arch/base/unix_path.h"
#include "serve/host/front.h"
#include "serve/ipc/child.h"
#include "serve/template/store.h"
#include "vmm.h"

#define SERVE_SHORT_US  2000000u /* a front that lived shorter did not get far */
#define SERVE_SHORT_MAX 5u       /* so many in a row are enough */
#define SERVE_PAUSE_MS  100

struct keeper {
	struct front_options front;
	struct host_config config;
	pid_t pid; /* of the front */
	bool ending;
};

/* --- Listening --- */

static int keeper_listen_add(struct keeper *k, const char *address)
{
	struct front_options *f = &k->front;
	int fd = address_listen(address, f->listen_names[f->listen_count]);

	if (fd < 0)
		return fd;
	f->listen_fds[f->listen_count++] = fd;
	return 0;
}

/* `localhost` is ::1 first for Node and JVMs; a machine may have no such address. */
static int keeper_listen_one(struct keeper *k, const char *address)
{
	int ret = keeper_listen_add(k, address);
	char other[ADDRESS_TEXT_MAX];

	if (ret < 0 || !address_is_localhost(address))
		return ret;
	snprintf(other, sizeof(other), "[::1]%s",
		 strrchr(k->front.listen_names[k->front.listen_count - 1], ':'));
	ret = keeper_listen_add(k, other);
	if (ret < 0 && ret != -EADDRNOTAVAIL && ret != -EAFNOSUPPORT)
		notef("localhost is served by 127.0.0.1 only: %s", error_text());
	return 0;
}

/* The user's own socket, where commands look for the host. Another host may have it already. */
static void keeper_listen_runtime(struct keeper *k)
{
	char address[ADDRESS_TEXT_MAX];

	if (address_runtime(address) < 0)
		return;
	for (unsigned i = 0; i < k->front.listen_count; i++)
		if (strcmp(k->front.listen_names[i], address) == 0)
			return;
	if (keeper_listen_one(k, address) < 0)
		notef("commands will find this host by --host only: %s", error_text());
}

static int keeper_listen(struct keeper *k, const struct keeper_options *options)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < options->listen_count; i++)
		ret = keeper_listen_one(k, options->listen[i]);
	for (unsigned i = 0; ret == 0 && !options->listen_count && i < k->config.listen_count; i++)
		ret = keeper_listen_one(k, k->config.listen[i]);
	if (ret == 0 && !k->front.listen_count)
		ret = keeper_listen_one(k, ADDRESS_DEFAULT);
	if (ret == 0)
		keeper_listen_runtime(k);
	return ret;
}

static void keeper_close(struct keeper *k)
{
	for (unsigned i = 0; i < k->front.listen_count; i++) {
		/* A process of a front that was killed may have it open for a moment longer. */
		shutdown(k->front.listen_fds[i], SHUT_RDWR);
		close(k->front.listen_fds[i]);
		unix_path_remove_dead(address_path(k->front.listen_names[i]));
	}
}

/* --- The front --- */

static int keeper_front(void *opaque)
{
	const struct keeper *k = opaque;

	prctl(PR_SET_NAME, "virga-front");
	/* Terminals and service managers tell every process what the keeper is told. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	return front_main(&k->front);
}

static int keeper_fork(struct keeper *k)
{
	pid_t pid = child_fork(SIGKILL, keeper_front, k);

	k->pid = pid < 0 ? 0 : pid;
	return pid < 0 ? pid : 0;
}

/* The configuration that the next front begins with; one that cannot be read is the front's to say. */
static void keeper_read_again(struct keeper *k)
{
	struct host_config config;
	struct host_names names;

	host_config_init(&config);
	if (host_config_read(&config, k->front.options->config_file) < 0) {
		host_config_fini(&config);
		return;
	}
	/* What a front that runs does not change, the next one does not either. */
	config.shells = k->config.shells;
	config.bare = k->config.bare;
	config.refill = k->config.refill;
	config.memory_total = k->config.memory_total;
	names = config.hosts;
	config.hosts = k->config.hosts;
	k->config.hosts = names;
	host_config_fini(&k->config);
	k->config = config;
}

/* Tells the front. */
static void keeper_signal(struct keeper *k, int signal)
{
	if (signal == SIGHUP)
		keeper_read_again(k);
	else
		k->ending = true;
	if (k->pid > 0)
		kill(k->pid, signal == SIGHUP ? FRONT_SIGNAL_REFRESH : FRONT_SIGNAL_DRAIN);
}

/* Waits until the front has ended; its wait status. */
static int keeper_wait(struct keeper *k, const sigset_t *signals)
{
	int status;
	pid_t pid;

	for (;;) {
		siginfo_t info;
		int signal = sigwaitinfo(signals, &info);

		if (signal > 0 && signal != SIGCHLD)
			keeper_signal(k, signal);
		/* As process 1 of a container it gets the children of a front that was killed. */
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == k->pid)
				return status;
	}
}

static void keeper_block(sigset_t *signals)
{
	sigset_t set;

	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGHUP);
	sigaddset(signals, SIGCHLD);
	signals_block_ends();
	/* In a front from its first instruction on. */
	sigemptyset(&set);
	sigaddset(&set, FRONT_SIGNAL_DRAIN);
	sigaddset(&set, FRONT_SIGNAL_REFRESH);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP); /* has things looked at anew; under nohup(1), too */
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Fronts, one after the other, until one ends as it should or it makes no sense. */
static int keeper_run(struct keeper *k)
{
	const struct timespec pause = { .tv_nsec = SERVE_PAUSE_MS * 1000000L };
	unsigned shorts = 0;
	sigset_t signals;

	keeper_block(&signals);
	for (;;) {
		uint64_t start_us = monotonic_us();
		int status;

		if (keeper_fork(k) < 0) {
			notef("serve: %s", error_text());
			return STATUS_HOST;
		}
		status = keeper_wait(k, &signals);
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (k->ending)
			return 0;
		shorts = monotonic_us() - start_us < SERVE_SHORT_US ? shorts + 1 : 0;
		notef("serve: the front was killed by signal %d (%s)%s", WTERMSIG(status),
		      strsignal(WTERMSIG(status)),
		      shorts < SERVE_SHORT_MAX ? "; starting another" : " again and again");
		if (shorts == SERVE_SHORT_MAX)
			return STATUS_HOST;
		nanosleep(&pause, NULL);
		k->front.again = true;
	}
}

/* --- The command --- */

/* The store is made when it is missing: a template that is built later is noticed then. */
static int keeper_make_store(const struct keeper *k, const char *store)
{
	char *path;
	int ret = template_store_dir(store ? store : k->config.store, true, &path);

	free(path);
	return ret;
}

int keeper_main(const struct keeper_options *options)
{
	struct keeper k = { .front = { .options = options, .config = &k.config } };
	int status = STATUS_BAD_INPUT;

	host_config_init(&k.config);
	io_raise_limit();
	if (host_config_read(&k.config, options->config_file) < 0 ||
	    keeper_make_store(&k, options->store) < 0 || keeper_listen(&k, options) < 0)
		notef("serve: %s", error_text());
	else
		status = keeper_run(&k);
	keeper_close(&k);
	host_config_fini(&k.config);
	return status;
}
