/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that becomes a template (serve/template/guest.h).
 */
#include "serve/template/guest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "boot/snapshot/snapshot.h"
#include "serve/ipc/message.h"
#include "serve/ipc/payload.h"
#include "serve/machine/process.h"
#include "vmm.h"

#define GUEST_QUIESCE_MS 10000u
#define GUEST_SETTLE_MS  10000u
#define GUEST_WINDOW_MS  20u     /* of watching whether it is idle */
#define GUEST_IDLE_US    1000u   /* of CPU time in a window, at most */
#define GUEST_IDLE_COUNT 5u      /* such windows in a row */
#define GUEST_SAVE_MS    600000u /* a big memory onto a slow disk */
#define GUEST_IDS        1000u   /* of requests, from here on */
#define GUEST_LISTEN_S   10      /* for a machine that does not take what it is told */

/* What template_guest_main() is to run. */
struct template_guest_order {
	const struct config *config;
	int console_fd; /* -1: none */
};

/* In the child: the VM process, which is not to see this one's files. */
static int template_guest_main(void *opaque, int fd)
{
	const struct template_guest_order *order = opaque;
	const struct machine_options machine = {
		.config = order->config,
		.stdio = order->console_fd >= 0,
		.supervisor_fd = STDERR_FILENO + 1,
		.main_us = monotonic_us(),
	};

	if ((order->console_fd >= 0 && console_take(order->console_fd) < 0) ||
	    child_keep(&fd, 1, machine.supervisor_fd) < 0) {
		notef("template build: %s", error_text());
		return STATUS_VIRGA;
	}
	return machine_main(&machine);
}

int template_guest_start(struct template_guest *g, const struct config *config)
{
	struct template_guest_order order = { .config = config, .console_fd = -1 };
	const struct timeval patience = { .tv_sec = GUEST_LISTEN_S };
	int ret = 0;

	g->console.fd = -1;
	if (!config_short(config, "serial"))
		ret = console_open(&g->console, &order.console_fd);
	if (ret == 0)
		ret = child_start(&g->child, template_guest_main, &order);
	if (order.console_fd >= 0)
		close(order.console_fd);
	if (ret < 0)
		console_close(&g->console);
	else
		setsockopt(g->child.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return ret;
}

void template_guest_stop(struct template_guest *g, int ret)
{
	if (g->child.pid <= 0)
		return;
	child_stop(&g->child);
	if (ret == -ESRCH || ret == -ETIMEDOUT)
		console_say(&g->console);
	else
		console_close(&g->console);
}

/*
 * The guest may want a port of the host: there is nothing behind it yet. Without room the answer is
 * dropped: a machine that asks and does not listen is not waited for.
 */
static void template_guest_refuse(const struct template_guest *g, uint64_t id)
{
	struct message m;

	message_init(&m, MESSAGE_DEVICE_ANSWER);
	m.id = id;
	m.value = ECONNREFUSED;
	message_try(g->child.fd, &m);
}

/*
 * Waits for a message of that type; others are served or skipped. 0, -ETIMEDOUT without a sentence,
 * or -errno with one. An answer's descriptors are the caller's, others are closed.
 */
static int template_guest_wait(struct template_guest *g, enum message_type type,
			       uint64_t timeout_ms, struct message *m)
{
	uint64_t deadline_us = monotonic_us() + timeout_ms * 1000;

	for (;;) {
		struct pollfd in[] = {
			{ .fd = g->child.fd, .events = POLLIN },
			{ .fd = g->console.fd, .events = POLLIN }, /* -1 is passed over */
		};
		uint64_t now = monotonic_us();
		int ret;

		if (now >= deadline_us)
			return -ETIMEDOUT;
		if (poll(in, 2, (int)((deadline_us - now + 999) / 1000)) <= 0)
			continue;
		if (in[1].revents)
			console_read(&g->console);
		if (!in[0].revents)
			continue;
		ret = message_receive(g->child.fd, m);
		if (ret == -EAGAIN)
			continue;
		if (ret != 1)
			return failf(ESRCH, "the machine is gone");
		if (m->type == MESSAGE_ANSWER && m->type == type)
			return 0;
		message_close_fds(m);
		if (m->type == type)
			return 0;
		if (m->type == MESSAGE_ENDED)
			return failf(ESRCH, "the machine ended: %s",
				     m->text_len ? m->text : "nothing says why");
		if (m->type == MESSAGE_CONNECT)
			template_guest_refuse(g, m->id);
	}
}

static int template_guest_ask(struct template_guest *g, enum message_type type)
{
	struct message m;
	int ret;

	message_init(&m, type);
	ret = message_send(g->child.fd, &m);
	return ret < 0 ? failf(-ret, "the machine does not listen: %s", strerror(-ret)) : 0;
}

int template_guest_ready(struct template_guest *g, unsigned timeout_s)
{
	struct message m;
	int ret = template_guest_wait(g, MESSAGE_READY, timeout_s * 1000ull, &m);

	if (ret == -ETIMEDOUT)
		return failf(ETIMEDOUT,
			     "the guest did not say READY within %u s; --ready-timeout S waits "
			     "longer",
			     timeout_s);
	return ret;
}

int template_guest_request(struct template_guest *g, const void *data, size_t len,
			   uint32_t timeout_ms)
{
	struct message m;
	void *error = NULL;
	size_t error_len = 0;
	int ret;

	message_init(&m, MESSAGE_REQUEST);
	m.id = GUEST_IDS + g->requests++;
	m.value = timeout_ms;
	ret = payload_send(g->child.fd, &m, data, len);
	if (ret == -EAGAIN)
		return failf(EAGAIN, "the machine does not listen");
	if (ret == 0)
		ret = template_guest_wait(g, MESSAGE_ANSWER, timeout_ms, &m);
	if (ret == -ETIMEDOUT)
		return failf(ETIMEDOUT,
			     "warm-up request: no answer within %.3g s; --timeout S waits longer",
			     timeout_ms / 1000.0);
	if (ret < 0)
		return ret;
	if (m.value == CHANNEL_ERROR)
		ret = payload_take(&m, &error, &error_len);
	if (error)
		ret = failf(EREMOTEIO, "warm-up request: the guest answered with an error: %.*s",
			    (int)(error_len < 160 ? error_len : 160), (char *)error);
	free(error);
	message_close_fds(&m);
	return ret;
}

/* CPU time of the machine so far, in us. */
static uint64_t template_guest_cpu_us(const struct template_guest *g)
{
	struct timespec used = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(g->child.pid, &clock) == 0)
		clock_gettime(clock, &used);
	return (uint64_t)used.tv_sec * 1000000u + (uint64_t)used.tv_nsec / 1000u;
}

/* False when it is still busy at the end of the time. -errno when it ended meanwhile. */
static int template_guest_settle(struct template_guest *g)
{
	uint64_t deadline_us = monotonic_us() + GUEST_SETTLE_MS * 1000ull;
	unsigned idle = 0;

	while (idle < GUEST_IDLE_COUNT) {
		uint64_t before_us = template_guest_cpu_us(g);
		struct message m;
		int ret = template_guest_wait(g, MESSAGE_NONE, GUEST_WINDOW_MS, &m);

		if (ret != -ETIMEDOUT)
			return ret;
		idle = template_guest_cpu_us(g) - before_us <= GUEST_IDLE_US ? idle + 1 : 0;
		if (idle == 0 && monotonic_us() > deadline_us)
			return -ETIMEDOUT;
	}
	return 0;
}

int template_guest_quiesce(struct template_guest *g)
{
	const char *not_done = "say QUIESCED";
	struct message m;
	int ret = template_guest_ask(g, MESSAGE_QUIESCE);

	if (ret == 0)
		ret = template_guest_wait(g, MESSAGE_QUIESCED, GUEST_QUIESCE_MS, &m);
	if (ret == 0) {
		not_done = "become idle";
		ret = template_guest_settle(g);
	}
	if (ret != -ETIMEDOUT)
		return ret;
	notef("%s: the guest did not %s within %u s; the snapshot is taken as it is", g->name,
	      not_done, GUEST_QUIESCE_MS / 1000);
	return 0;
}

int template_guest_save(struct template_guest *g, const char *config_text, int state_fd,
			int memory_fd)
{
	struct snapshot_config config = snapshot_config_of(config_text, strlen(config_text));
	struct message m;
	int ret = template_guest_ask(g, MESSAGE_STOP);

	if (ret == 0)
		ret = template_guest_wait(g, MESSAGE_STOPPED, GUEST_QUIESCE_MS, &m);
	if (ret == 0) {
		message_init(&m, MESSAGE_SNAPSHOT);
		memcpy(m.text, &config, sizeof(config));
		m.text_len = sizeof(config);
		m.fd_count = 2;
		m.fds[0] = state_fd;
		m.fds[1] = memory_fd;
		ret = message_send(g->child.fd, &m);
		if (ret < 0)
			return failf(-ret, "the machine does not listen: %s", strerror(-ret));
		ret = template_guest_wait(g, MESSAGE_SNAPSHOT_DONE, GUEST_SAVE_MS, &m);
	}
	if (ret == -ETIMEDOUT)
		return failf(ETIMEDOUT, "the machine does not stop or cannot be saved in time");
	return ret == 0 && m.value ? failf(EIO, "%s", m.text) : ret;
}
