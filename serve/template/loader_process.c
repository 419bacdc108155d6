/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loader (serve/template/loader_process.h): reads and verifies one template, sends it sealed, and ends.
 */
#include "serve/template/loader_process.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "arch/base/error.h"
#include "boot/snapshot/sealed.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "serve/template/builtin.h"
#include "vmm.h"

/* How long it may take is the front's to say, which does not touch the disk itself. */
static void loader_say_size(const struct snapshot *s)
{
	struct message m;
	struct stat st;

	message_init(&m, MESSAGE_LOADING);
	m.id = fstat(s->memory_fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
	message_send(CHILD_FD, &m);
}

static int loader_read(const char *path, struct sealed *sealed)
{
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, path);

	if (ret < 0)
		return ret;
	loader_say_size(&snapshot);
	ret = snapshot_check_devices(&snapshot);
	if (ret == 0)
		ret = sealed_make(sealed, &snapshot);
	snapshot_close(&snapshot);
	return ret;
}

int loader_main(char *const argv[])
{
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	struct message m;
	int ret = child_begin(LOADER_NAME, argv[1]);

	if (ret < 0 || !argv[2]) {
		notef("%s", error_text());
		return ret == -EINVAL ? STATUS_BAD_INPUT : STATUS_HOST;
	}
	ret = argv[3] ? loader_read(argv[3], &sealed)
		      : builtin_make(&sealed, strtoull(argv[2], NULL, 10));
	message_init(&m, MESSAGE_LOADED);
	if (ret < 0) {
		m.value = (uint32_t)-ret;
		message_set_text(&m, error_text());
	} else {
		m.fd_count = 2;
		m.fds[0] = sealed.memory_fd;
		m.fds[1] = sealed.parts_fd;
	}
	message_send(CHILD_FD, &m);
	return 0;
}
