/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM process whose guest has broken out may tell its supervisor: messages of any type, text and
 * descriptors at any time, while QMP asks for things. Only that VM process is ever killed, once, and no
 * descriptor is left.
 */
/* wrap: child_start kill unix_path_connect snapshot_dir_create snapshot_dir_abort snapshot_dir_commit */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "serve/control/vm_process.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/fds.h"

#define CHILD 12345 /* a process that there is not */

static struct {
	struct loop loop;
	pthread_mutex_t lock;
	struct control_socket control;
	struct config config;
	struct vm_process process;
	struct bytes in;
	int vm; /* the VM process's end; -1: it has hung up */
	unsigned kills;
	uint64_t ticket;
} bed;

/* --- What it does to the system --- */

int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque);
int __wrap_child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque)
{
	int pair[2];

	(void)main;
	(void)opaque;
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	*child = (struct child){ .pid = CHILD, .fd = pair[0] };
	bed.vm = pair[1];
	return 0;
}

int __wrap_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig)
{
	must(pid == CHILD && sig == SIGKILL);
	bed.kills++;
	return 0;
}

int __wrap_unix_path_connect(const char *path, bool nonblock);
int __wrap_unix_path_connect(const char *path, bool nonblock)
{
	(void)nonblock;
	must(strncmp(path, "/v_", 3) == 0);
	return bytes_u8(&bed.in) & 1 ? -ECONNREFUSED : memfd_create("peer", MFD_CLOEXEC);
}

int __wrap_snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			       size_t config_len);
int __wrap_snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			       size_t config_len)
{
	must(path[0] == '/' && strlen(config) == config_len);
	if (bytes_u8(&bed.in) & 1)
		return failf(EEXIST, "there is one");
	dir->state_fd = memfd_create("state", MFD_CLOEXEC);
	dir->memory_fd = memfd_create("memory", MFD_CLOEXEC);
	must(dir->state_fd >= 0 && dir->memory_fd >= 0);
	return 0;
}

void __wrap_snapshot_dir_abort(struct snapshot_dir *dir);
void __wrap_snapshot_dir_abort(struct snapshot_dir *dir)
{
	must(dir->state_fd >= 0 && dir->memory_fd >= 0);
	close(dir->state_fd);
	close(dir->memory_fd);
	dir->state_fd = dir->memory_fd = -1;
}

int __wrap_snapshot_dir_commit(struct snapshot_dir *dir);
int __wrap_snapshot_dir_commit(struct snapshot_dir *dir)
{
	__wrap_snapshot_dir_abort(dir);
	return 0;
}

/* --- What is said --- */

static void say(void)
{
	static const uint8_t types[] = { MESSAGE_STOPPED,       MESSAGE_RUNNING, MESSAGE_READY,
					 MESSAGE_SNAPSHOT_DONE, MESSAGE_CONNECT, MESSAGE_THREADS,
					 MESSAGE_ANSWER,        MESSAGE_ENDED,   MESSAGE_QUIESCED,
					 MESSAGE_PRESSED };
	static struct message m;
	uint8_t how = bytes_u8(&bed.in), type = bytes_u8(&bed.in);
	size_t len;
	const uint8_t *text = bytes_take(&bed.in, bytes_u8(&bed.in), &len);

	message_init(&m, how & 1 ? type : types[type % sizeof(types)]);
	m.value = how & 2 ? (uint32_t)bytes_odd(&bed.in) : 0;
	m.id = how & 4 ? bytes_odd(&bed.in) : bed.ticket;
	if (len)
		memcpy(m.text, text, len);
	m.text_len = (uint32_t)len;
	if (how & 8)
		message_set_text(&m, "pause_us 123");
	m.fd_count = how >> 6;
	for (unsigned i = 0; i < m.fd_count; i++)
		m.fds[i] = bed.vm;
	if (bed.vm >= 0)
		message_try(bed.vm, &m);
}

static void ask(uint8_t how)
{
	static const char *const uris[] = { "file:/a", "file:a", "exec:/a", "" };
	enum view_request request = how % (VIEW_SNAPSHOT + 1);
	const struct view *view = &bed.process.view;

	view->request(view->opaque, request, request == VIEW_SNAPSHOT ? uris[how >> 6] : NULL,
		      &bed.ticket);
}

static void step(void)
{
	for (unsigned i = 0; i < 8 && loop_step(&bed.loop, &bed.lock, 0) > 0; i++)
		;
	must(bed.process.view.cpu_count <= VIEW_CPUS_MAX);
	must(memchr(bed.process.verdict, 0, sizeof(bed.process.verdict)) != NULL);
	must(bed.kills <= 1 && (!bed.kills || bed.process.killed));
}

static void act(void)
{
	static struct message m;
	uint8_t what = bytes_u8(&bed.in);

	switch (what & 7) {
	case 0:
		ask(bytes_u8(&bed.in));
		break;
	case 1: /* what it is told; descriptors are its own */
		if (bed.vm >= 0 && message_receive(bed.vm, &m) == 1)
			message_close_fds(&m);
		break;
	case 2:
		if (what == 0xfa && bed.vm >= 0) {
			close(bed.vm);
			bed.vm = -1;
		}
		break;
	case 3: /* no message at all */
		if (bed.vm >= 0)
			send(bed.vm, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 4:
		step();
		break;
	default:
		say();
		if (what & 8)
			step();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned before = fds_open();

	bed.in = (struct bytes){ data, size };
	bed.kills = 0;
	bed.ticket = 0;
	pthread_mutex_init(&bed.lock, NULL);
	loop_init(&bed.loop);
	config_init(&bed.config);
	must(config_set(&bed.config, "vsock", "/v") == 0);
	must(vm_process_init(&bed.process, &bed.loop, &bed.control, &bed.config,
			     &bed.config.devices) == 0);
	must(socket_init(&bed.control, &bed.loop, -1, &bed.process.view) == 0);
	must(vm_process_start(&bed.process, NULL, NULL) == 0);
	while (bed.in.left)
		act();
	step();
	vm_process_dead(&bed.process);
	must(bed.process.view.state == VIEW_ENDED);
	vm_process_fini(&bed.process);
	socket_fini(&bed.control);
	config_fini(&bed.config);
	loop_fini(&bed.loop);
	if (bed.vm >= 0)
		close(bed.vm);
	must(fds_open() == before);
	return 0;
}
