/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of messages (serve/payload.h).
 */
#include "serve/payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/error.h"
#include "devices/channel_protocol.h"
#include "serve/output.h"

static int payload_memfd(const void *data, size_t len)
{
	int fd = memfd_create("payload", MFD_CLOEXEC), ret;

	if (fd < 0)
		return failf(errno, "cannot keep a message of %zu bytes: %s", len, strerror(errno));
	ret = output_write_all(fd, data, len);
	if (ret == 0)
		return fd;
	close(fd);
	return failf(-ret, "cannot keep a message of %zu bytes: %s", len, strerror(-ret));
}

int payload_send(int fd, struct message *m, const void *data, size_t len)
{
	int memfd = -1, ret;

	if (len <= MESSAGE_TEXT_MAX) {
		m->text_len = (uint32_t)len;
		if (len)
			memcpy(m->text, data, len);
	} else {
		memfd = payload_memfd(data, len);
		if (memfd < 0)
			return memfd;
		m->text_len = 0;
		m->fd_count = 1;
		m->fds[0] = memfd;
	}
	ret = message_send(fd, m);
	if (memfd >= 0)
		close(memfd);
	m->fd_count = 0;
	return ret < 0 ? failf(-ret, "cannot send a message on: %s", strerror(-ret)) : 0;
}

int payload_take(const struct message *m, void **data, size_t *len)
{
	struct stat st = { .st_size = m->text_len };

	if (m->fd_count && fstat(m->fds[0], &st) < 0)
		return failf(errno, "a message without its payload: %s", strerror(errno));
	if (st.st_size > CHANNEL_PAYLOAD_MAX)
		return failf(EMSGSIZE, "a message of %lld bytes is too long: at most %u",
			     (long long)st.st_size, CHANNEL_PAYLOAD_MAX);
	*data = NULL;
	*len = (size_t)st.st_size;
	*data = malloc(*len + 1);
	if (!*data)
		return failf(ENOMEM, "out of memory for a message of %zu bytes", *len);
	if (!m->fd_count) {
		memcpy(*data, m->text, *len);
	} else if (pread(m->fds[0], *data, *len, 0) != (ssize_t)*len) {
		free(*data);
		*data = NULL;
		return failf(EIO, "a message came without its payload");
	}
	return 0;
}
