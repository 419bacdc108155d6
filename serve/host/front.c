/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's life (serve/host/front.h): templates are loaded, from the first on connections accepted,
 * until SIGTERM.
 * Which templates and when again: serve/host/catalog.c.
 */
#include "serve/host/front.h"
#include "serve/host/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/timers.h"
#include "serve/host/catalog.h"
#include "serve/host/lambda.h"
#include "serve/host/log.h"
#include "serve/http/http.h"
#include "serve/pool/pool.h"
#include "vmm.h"

#define FRONT_DRAIN_LOOK_MS  100
#define FRONT_GRACE_US       5000000u
#define FRONT_DRAIN_EXTRA_US 5000000u /* for answers that are not read; beyond all time-outs */

struct front {
	const struct front_options *options;
	struct loop loop;
	pthread_mutex_t lock; /* the loop's; nobody else takes it */
	struct timers timers;
	struct http_server http;
	struct http_handler handler;
	struct pool pool;
	struct lambda lambda;
	struct log log;
	struct catalog catalog;
	int signal_fd;
	bool ready;         /* it listens */
	struct timer grace; /* until it does without all templates, when there was another front */
	bool draining;
	bool over;
	uint64_t drain_until_us;
	uint64_t drain_invocations; /* begun when that was set */
	int status;
};

/* --- Ready --- */

static void front_banner(const struct front *f)
{
	const struct front_options *o = f->options;
	const char *name = function_find(&f->pool, HOST_BUILTIN, strlen(HOST_BUILTIN))
				   ? HOST_BUILTIN
			   : f->pool.functions ? f->pool.functions->config.name
					       : "NAME";
	const char *path;

	for (unsigned i = 0; i < o->listen_count; i++)
		fprintf(stderr, "virga: serving on %s%s\n",
			address_path(o->listen_names[i]) ? "" : "http://", o->listen_names[i]);
	path = address_path(o->listen_names[0]);
	fprintf(stderr,
		"try:   curl -s %s%s%shttp://%s/2015-03-31/functions/%s/invocations -d 'hello'\n",
		path ? "--unix-socket " : "", path ? path : "", path ? " " : "",
		path ? "localhost" : o->listen_names[0], name);
}

static void front_end(struct front *f, int status)
{
	notef("serve: %s", error_text());
	f->status = status;
	f->over = true;
}

/* Clients are heard from here on. */
static void front_listen(void *opaque)
{
	struct front *f = opaque;
	const struct front_options *o = f->options;
	int ret = 0;

	timer_clear(&f->timers, &f->grace);
	if (f->ready)
		return;
	f->ready = true;
	for (unsigned i = 0; ret == 0 && i < o->listen_count; i++)
		ret = http_listen(&f->http, o->listen_fds[i]);
	if (ret < 0)
		front_end(f, STATUS_HOST);
	else if (!o->again)
		front_banner(f);
}

/* The first template is there. Another front's clients were served a moment ago: they wait for the others. */
static void front_ready(void *opaque)
{
	struct front *f = opaque;

	if (!f->options->again)
		front_listen(f);
	else if (!f->ready && !f->grace.place)
		timer_set(&f->timers, &f->grace, monotonic_us() + FRONT_GRACE_US);
}

/* All templates have been loaded, or could not be. */
static void front_loaded(void *opaque, const char *error)
{
	struct front *f = opaque;

	if (error && !f->options->again) {
		failf(EINVAL, "%s", error);
		front_end(f, f->catalog.first_builtin ? STATUS_HOST : STATUS_BAD_INPUT);
		return;
	}
	front_listen(f);
}

/* --- Signals --- */

static uint32_t front_longest_ms(const struct front *f)
{
	uint32_t longest = 0;

	for (const struct function *fn = f->pool.functions; fn; fn = fn->next)
		if (fn->config.timeout_ms > longest && fn->active + fn->waiting)
			longest = fn->config.timeout_ms;
	return longest;
}

/* Who runs or waits has its time, and so has a request that had come and is read only now. */
static void front_give_time(struct front *f)
{
	f->drain_until_us = monotonic_us() + front_longest_ms(f) * 1000ull + FRONT_DRAIN_EXTRA_US;
	f->drain_invocations = f->pool.invocations;
}

static void front_drain(struct front *f)
{
	if (f->draining) {
		f->over = true;
		return;
	}
	notef("draining: %u requests run, %u wait", f->pool.active, f->pool.waiting);
	f->draining = true;
	catalog_stop(&f->catalog);
	timer_clear(&f->timers, &f->grace);
	http_drain(&f->http);
	/* Whoever comes now is refused, not left waiting. */
	for (unsigned i = 0; i < f->options->listen_count; i++)
		shutdown(f->options->listen_fds[i], SHUT_RDWR);
	pool_drain(&f->pool);
	front_give_time(f);
}

static void front_signal(void *opaque, uint32_t events)
{
	struct front *f = opaque;
	struct signalfd_siginfo info;

	(void)events;
	if (read(f->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	/* Where no signal can be queued (ulimit -i) who sent it is lost; it was the keeper all the same. */
	if (info.ssi_pid && info.ssi_pid != (uint32_t)getppid())
		return;
	if (info.ssi_signo == (uint32_t)FRONT_SIGNAL_REFRESH)
		catalog_refresh(&f->catalog);
	else
		front_drain(f);
}

static int front_watch_signals(struct front *f)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, FRONT_SIGNAL_DRAIN);
	sigaddset(&set, FRONT_SIGNAL_REFRESH);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	f->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (f->signal_fd < 0)
		return failf(errno, "cannot watch signals: %s", strerror(errno));
	return loop_add(&f->loop, f->signal_fd, EPOLLIN, front_signal, f) ? 0 : -ENOMEM;
}

/* --- Life --- */

static int front_init(struct front *f)
{
	const struct host_config *config = f->options->config;
	const struct pool_limits limits = {
		.shells = config->shells,
		.bare = config->bare,
		.refill = config->refill,
		.memory = config->memory_total,
	};
	int ret;

	pthread_mutex_init(&f->lock, NULL);
	loop_init(&f->loop);
	f->grace = (struct timer){ .expired = front_listen, .opaque = f };
	f->handler = (struct http_handler){ .request = lambda_request,
					    .gone = lambda_gone,
					    .opaque = &f->lambda };
	ret = timers_reserve(&f->timers, 2 * HTTP_CONNECTIONS_MAX + config->shells + 64);
	if (ret == 0)
		ret = front_watch_signals(f);
	/* The spawner is forked before there is a second thread. */
	if (ret == 0)
		ret = pool_init(&f->pool, &f->loop, &f->timers, &limits);
	if (ret == 0)
		ret = log_start(&f->log);
	if (ret == 0)
		ret = http_init(&f->http, &f->loop, &f->timers, &f->handler);
	if (ret < 0)
		return ret;
	lambda_init(&f->lambda, &f->http, &f->pool, &f->log);
	f->lambda.hosts = &config->hosts;
	f->catalog = (struct catalog){
		.named_store = f->options->options->store,
		.config_file = f->options->options->config_file,
		.config = f->options->config,
		.pool = &f->pool,
		.ready = front_ready,
		.loaded = front_loaded,
		.opaque = f,
	};
	return catalog_start(&f->catalog, &f->loop, &f->timers);
}

static void front_fini(struct front *f)
{
	catalog_stop(&f->catalog);
	http_fini(&f->http);
	pool_fini(&f->pool);
	timers_fini(&f->timers);
	log_stop(&f->log);
}

static bool front_drained(const struct front *f)
{
	return f->draining && ((f->http.count == 0 && f->pool.active + f->pool.waiting == 0) ||
			       monotonic_us() > f->drain_until_us);
}

static int front_run(struct front *f)
{
	int ret = front_init(f);

	while (ret >= 0 && !f->over && !front_drained(f)) {
		int wait_ms = timers_wait_ms(&f->timers, monotonic_us());

		if (f->draining && (wait_ms < 0 || wait_ms > FRONT_DRAIN_LOOK_MS))
			wait_ms = FRONT_DRAIN_LOOK_MS;
		ret = loop_step(&f->loop, &f->lock, wait_ms);
		timers_run(&f->timers, monotonic_us());
		if (f->draining && f->pool.invocations != f->drain_invocations)
			front_give_time(f);
	}
	if (ret < 0) {
		notef("serve: %s", error_text()[0] ? error_text() : strerror(-ret));
		f->status = STATUS_HOST;
	}
	front_fini(f);
	return f->status;
}

int front_main(const struct front_options *options)
{
	struct front *f = calloc(1, sizeof(*f));
	int status;

	if (!f) {
		notef("serve: out of memory");
		return STATUS_HOST;
	}
	f->options = options;
	f->signal_fd = f->http.spare.fd = f->pool.spawner.child.fd = -1;
	status = front_run(f);
	free(f);
	return status;
}
