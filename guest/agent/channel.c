/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the function channel: devices/channel/protocol.h.
 */
#include "guest/agent/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define READ_SIZE   65536u
#define READ_ROUNDS 16 /* before others get their turn */

uint64_t channel_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void channel_open(struct channel *c, int fd)
{
	*c = (struct channel){ .fd = fd };
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void channel_close(struct channel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buffer_clear(&c->request);
	buffer_clear(&c->environment);
	buffer_clear(&c->out);
	c->request_open = false;
	c->header_have = 0;
	c->left = 0;
}

int channel_connect(void)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = CHANNEL_PORT,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

/* The time that the header leaves, from now; more than there is means no limit. */
static uint64_t channel_deadline(const struct channel *c)
{
	uint64_t now = channel_now_us();

	return c->header.deadline && c->header.deadline <= UINT64_MAX - now
		       ? now + c->header.deadline
		       : 0;
}

static void channel_request_begin(struct channel *c)
{
	if (c->request_open && c->request_id == c->header.id)
		return;
	c->request_open = true;
	c->request_id = c->header.id;
	c->deadline_us = channel_deadline(c);
	c->cancelled = false;
	c->too_long = false;
	buffer_clear(&c->request);
}

static void channel_payload(struct channel *c, const uint8_t *data, size_t len)
{
	size_t room = CHANNEL_SMALL_MAX - c->small_len;

	if (c->header.type == CHANNEL_REQUEST) {
		if (c->too_long)
			return;
		if (buffer_len(&c->request) + len > CHANNEL_PAYLOAD_MAX ||
		    buffer_append(&c->request, data, len) != 0) {
			c->too_long = true;
			buffer_clear(&c->request);
		}
		return;
	}
	if (c->header.type == CHANNEL_ENVIRONMENT) {
		/* What has no room is missing at the end, which channel_frame() sees. */
		if (c->header.length <= CHANNEL_ENVIRONMENT_MAX)
			(void)buffer_append(&c->environment, data, len);
		return;
	}
	if (len > room)
		len = room;
	memcpy(c->small + c->small_len, data, len);
	c->small_len += len;
}

/* A frame is whole. */
static void channel_frame(struct channel *c, channel_handler handler, void *opaque)
{
	struct message message = {
		.type = c->header.type,
		.id = c->header.id,
		.data = c->small,
		.len = c->small_len,
	};

	if (c->header.type == CHANNEL_CANCEL && c->request_open && c->request_id == c->header.id)
		c->cancelled = true;
	if (c->header.type == CHANNEL_ENVIRONMENT) {
		message.data = buffer_data(&c->environment);
		message.len = buffer_len(&c->environment);
		message.too_long = message.len != c->header.length;
	}
	if (c->header.type == CHANNEL_REQUEST) {
		if (c->header.flags & CHANNEL_FLAG_MORE)
			return;
		c->request_open = false;
		if (c->cancelled)
			return;
		message.deadline_us = c->deadline_us;
		message.data = buffer_data(&c->request);
		message.len = buffer_len(&c->request);
		message.too_long = c->too_long;
	}
	handler(opaque, &message);
	if (c->header.type == CHANNEL_REQUEST)
		buffer_clear(&c->request);
	buffer_clear(&c->environment);
}

static int channel_parse(struct channel *c, const uint8_t *data, size_t len,
			 channel_handler handler, void *opaque)
{
	while (len > 0) {
		size_t n = sizeof(c->header) - c->header_have;

		if (n > 0) {
			n = n < len ? n : len;
			memcpy((uint8_t *)&c->header + c->header_have, data, n);
			c->header_have += n;
			data += n;
			len -= n;
			if (c->header_have < sizeof(c->header))
				return 0;
			if (c->header.magic != CHANNEL_MAGIC ||
			    c->header.version != CHANNEL_VERSION)
				return -EPROTO;
			c->left = c->header.length;
			c->small_len = 0;
			if (c->header.type == CHANNEL_REQUEST)
				channel_request_begin(c);
		}
		n = c->left < len ? c->left : len;
		channel_payload(c, data, n);
		data += n;
		len -= n;
		c->left -= (uint32_t)n;
		if (c->left == 0) {
			c->header_have = 0;
			channel_frame(c, handler, opaque);
		}
	}
	return 0;
}

int channel_read(struct channel *c, channel_handler handler, void *opaque)
{
	uint8_t data[READ_SIZE];

	for (int round = 0; round < READ_ROUNDS; round++) {
		ssize_t n = read(c->fd, data, sizeof(data));
		int ret;

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		ret = channel_parse(c, data, (size_t)n, handler, opaque);
		if (ret)
			return ret;
		if ((size_t)n < sizeof(data))
			break;
	}
	return 0;
}

int channel_send(struct channel *c, enum channel_type type, uint8_t flags, uint64_t id,
		 const void *data, size_t len)
{
	struct channel_header header = {
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = (uint8_t)type,
		.flags = flags,
		.id = id,
		.length = (uint32_t)len,
	};

	if (c->fd < 0)
		return 0;
	if (!buffer_room(&c->out, sizeof(header) + len))
		return -ENOMEM;
	(void)buffer_append(&c->out, &header, sizeof(header));
	return buffer_append(&c->out, data, len);
}

int channel_write(struct channel *c)
{
	while (c->fd >= 0 && buffer_len(&c->out) > 0) {
		ssize_t n = send(c->fd, buffer_data(&c->out), buffer_len(&c->out), MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buffer_consume(&c->out, (size_t)n);
	}
	return 0;
}
