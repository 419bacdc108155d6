/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of the function channel through vsock connection 0 (devices/vsock/channel_end.h).
 */
#include "devices/vsock/channel_end.h"

#include <errno.h>
#include <string.h>

#include "devices/channel/channel.h"

static ssize_t vsock_channel_read(struct vsock_conn *c, const struct iovec *iov, unsigned count)
{
	struct channel *channel = c->opaque;
	ssize_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		const void *data;
		size_t len = channel_pending(channel, &data);

		if (len > iov[i].iov_len)
			len = iov[i].iov_len;
		if (len == 0)
			break;
		memcpy(iov[i].iov_base, data, len);
		channel_consume(channel, len);
		done += (ssize_t)len;
	}
	return done ? done : -EAGAIN;
}

static ssize_t vsock_channel_write(struct vsock_conn *c, const struct iovec *iov, unsigned count)
{
	ssize_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		int ret = channel_receive(c->opaque, iov[i].iov_base, iov[i].iov_len);

		if (ret)
			return ret;
		done += (ssize_t)iov[i].iov_len;
	}
	return done;
}

/* Half a channel is of no use. */
static void vsock_channel_shutdown(struct vsock_conn *c, unsigned flags)
{
	(void)flags;
	vsock_reset(c);
}

static bool vsock_channel_close(struct vsock_conn *c, bool drain)
{
	(void)drain;
	channel_closed(c->opaque);
	return false;
}

const struct vsock_end vsock_channel_end = {
	.read = vsock_channel_read,
	.write = vsock_channel_write,
	.shutdown = vsock_channel_shutdown,
	.close = vsock_channel_close,
};

bool vsock_channel_valid(const struct vsock_conn *c)
{
	switch (c->state) {
	case VSOCK_FREE:
	case VSOCK_RESET:
		return c->due == 0;
	case VSOCK_OPEN:
		return c->asked <= 1 && (c->due & ~VSOCK_DUE_ALL) == 0 &&
		       !(c->due & VSOCK_DUE_REQUEST) && c->guest_shut == 0 && c->host_shut == 0 &&
		       c->host_port == CHANNEL_PORT && c->buf_alloc == VSOCK_CHANNEL_BUF &&
		       c->received == c->fwd_cnt;
	default:
		return false;
	}
}
