/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of messages (serve/ipc/payload.h).
 */
#include "serve/ipc/payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"

static int payload_memfd(const void *data, size_t len)
{
	int fd = memfd_create("payload", MFD_CLOEXEC), ret;

	if (fd < 0)
		return failf(errno, "cannot keep a message of %zu bytes: %s", len, strerror(errno));
	ret = io_write_all(fd, data, len);
	if (ret == 0)
		return fd;
	close(fd);
	return failf(-ret, "cannot keep a message of %zu bytes: %s", len, write_error(-ret));
}

int payload_put(struct message *m, const void *data, size_t len)
{
	int fd;

	if (len <= MESSAGE_TEXT_MAX - m->text_len) {
		if (len)
			memcpy(m->text + m->text_len, data, len);
		m->text_len += (uint32_t)len;
		return 0;
	}
	if (m->fd_count == MESSAGE_FDS_MAX)
		return failf(EMSGSIZE, "a message has no room for one more descriptor");
	fd = payload_memfd(data, len);
	if (fd < 0)
		return fd;
	m->fds[m->fd_count++] = fd;
	return 1;
}

int payload_send(int fd, struct message *m, const void *data, size_t len)
{
	int ret, put;

	m->text_len = 0;
	put = payload_put(m, data, len);
	if (put < 0)
		return put;
	ret = message_send(fd, m);
	if (put)
		close(m->fds[0]);
	m->fd_count = 0;
	return ret < 0 ? failf(-ret, "cannot send a message on: %s", strerror(-ret)) : 0;
}

const void *payload_at(const struct message *m, size_t offset, size_t len, int fd, void **owned)
{
	*owned = NULL;
	if (len > PAYLOAD_MAX)
		return failf(EMSGSIZE, "a message of %zu bytes is too long: at most %u", len,
			     PAYLOAD_MAX),
		       NULL;
	if (fd < 0) {
		if (offset <= m->text_len && len <= m->text_len - offset)
			return m->text + offset;
		return failf(EPROTO, "a message is shorter than it says"), NULL;
	}
	*owned = malloc(len + 1);
	if (!*owned)
		return failf(ENOMEM, "out of memory for a message of %zu bytes", len), NULL;
	if (pread(fd, *owned, len, 0) == (ssize_t)len)
		return *owned;
	free(*owned);
	*owned = NULL;
	return failf(EIO, "a message came without its payload"), NULL;
}

int payload_take(const struct message *m, void **data, size_t *len)
{
	struct stat st = { .st_size = m->text_len };
	const void *at;

	*data = NULL;
	if (m->fd_count && fstat(m->fds[0], &st) < 0)
		return failf(errno, "a message without its payload: %s", strerror(errno));
	*len = (size_t)st.st_size;
	at = payload_at(m, 0, *len, m->fd_count ? m->fds[0] : -1, data);
	if (!at)
		return -EPROTO;
	if (*data)
		return 0;
	*data = malloc(*len + 1);
	if (!*data)
		return failf(ENOMEM, "out of memory for a message of %zu bytes", *len);
	memcpy(*data, at, *len);
	return 0;
}
