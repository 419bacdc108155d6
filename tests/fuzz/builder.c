/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine that is to become a template may tell its builder, which is not confined: messages of any
 * type, text and descriptors, too many of them, or none, and what its console prints. The builder comes to an
 * end and keeps no descriptor.
 */
/* wrap: monotonic_us poll child_start child_stop clock_getcpuclockid write */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "serve/ipc/message.h"
#include "serve/template/guest.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/fds.h"
#include "tests/unit/arch/own_time.h"

static struct {
	struct bytes in;
	int machine; /* its end */
	int console; /* where it prints */
} bed;

/* Lines for people lead nowhere. */
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	return fd == STDERR_FILENO ? (ssize_t)len : __real_write(fd, data, len);
}

int __wrap_clock_getcpuclockid(pid_t pid, clockid_t *clock);
int __wrap_clock_getcpuclockid(pid_t pid, clockid_t *clock)
{
	(void)pid;
	(void)clock;
	return ESRCH;
}

int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque);
int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque)
{
	int pair[2];

	(void)main;
	(void)opaque;
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	must(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){ 8192 }, sizeof(int)) == 0);
	*child = (struct child){ .pid = 1, .fd = pair[0] };
	bed.machine = pair[1];
	return 0;
}

void __wrap_child_stop(struct child *child);
void __wrap_child_stop(struct child *child)
{
	close(child->fd);
	*child = (struct child){ .fd = -1 };
}

/* --- The machine, which acts whenever its builder waits --- */

static void say(void)
{
	static const uint8_t types[] = { MESSAGE_READY,   MESSAGE_ANSWER,        MESSAGE_QUIESCED,
					 MESSAGE_STOPPED, MESSAGE_SNAPSHOT_DONE, MESSAGE_CONNECT,
					 MESSAGE_ENDED,   MESSAGE_NONE };
	static struct message m;
	uint8_t how = bytes_u8(&bed.in), type = bytes_u8(&bed.in);
	size_t len;
	const uint8_t *text = bytes_take(&bed.in, bytes_u8(&bed.in), &len);
	int payload = -1;

	message_init(&m, how & 1 ? type : types[type % sizeof(types)]);
	m.id = how & 2 ? bytes_odd(&bed.in) : 0;
	m.value = how & 4 ? bytes_below(&bed.in, 8) : 0;
	if (len)
		memcpy(m.text, text, len);
	m.text_len = (uint32_t)len;
	m.fd_count = how >> 6;
	for (unsigned i = 0; i < m.fd_count; i++)
		m.fds[i] = bed.machine;
	if (m.fd_count && how & 8) {
		payload = memfd_create("payload", MFD_CLOEXEC);
		must(payload >= 0 && ftruncate(payload, (off_t)(bytes_odd(&bed.in) >> 20)) >= -1);
		m.fds[0] = payload;
	}
	for (unsigned i = how & 16 ? 200 : 1; i && message_try(bed.machine, &m) == 0; i--)
		;
	if (payload >= 0)
		close(payload);
}

static void act(void)
{
	static struct message m;
	uint8_t what = bytes_u8(&bed.in);
	size_t len;
	const uint8_t *text;

	switch (what & 7) {
	case 0:
		own_time_us += what * 1000u;
		break;
	case 1:
		while (message_receive(bed.machine, &m) == 1)
			message_close_fds(&m);
		break;
	case 2:
		text = bytes_take(&bed.in, what, &len);
		if (len)
			must(write(bed.console, text, len) >= -1);
		break;
	case 3:
		must(send(bed.machine, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= -1);
		break;
	default:
		say();
	}
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	int ready = __real_poll(fds, count, 0);

	if (count == 1) /* somebody else's */
		return ready;
	if (bed.in.left)
		act();
	else if (!ready)
		own_time_us += (uint64_t)timeout_ms * 1000;
	return __real_poll(fds, count, 0);
}

static int build(struct template_guest *g, uint8_t how, const int files[2])
{
	int ret = template_guest_ready(g, 5);

	for (unsigned i = 0; ret == 0 && i < (how & 3u); i++)
		ret = template_guest_request(g, "request", 7, 1000);
	if (ret == 0)
		ret = template_guest_quiesce(g);
	if (ret == 0)
		ret = template_guest_save(g, "{}\n", files[0], files[1]);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct timeval patience = { .tv_usec = 1 };
	const int files[2] = { 1, 1 };
	struct template_guest g = { .name = "fuzz" };
	struct config config;
	unsigned before = fds_open();

	bed.in = (struct bytes){ data, size };
	config_init(&config);
	must(config_set(&config, "serial", "none") == 0);
	must(template_guest_start(&g, &config) == 0);
	must(setsockopt(g.child.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0);
	must(console_open(&g.console, &bed.console) == 0);
	template_guest_stop(&g, build(&g, bytes_u8(&bed.in), files));
	close(bed.console);
	close(bed.machine);
	config_fini(&config);
	must(fds_open() == before);
	return 0;
}
