/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device (virtio 1.2, 5.10): moves packets between its rings and
 * devices/vsock/vsock.c, saves and restores.
 *
 * A snapshot keeps connection 0, the function channel, as it is. Of every other one it keeps the
 * ports, and the restored machine's guest gets an RST for them: TRANSPORT_RESET would make Linux
 * close the channel too. The machine that was saved goes on with all of them.
 */
/*
 * syscalls supervised: accept4 recvfrom - connections from the host
 * syscalls supervised: shutdown - half-closed streams
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/unix_path.h"
#include "devices/channel/channel.h"
#include "devices/device.h"
#include "devices/virtio/device.h"
#include "devices/vsock/channel_end.h"
#include "devices/vsock/unix.h"
#include "devices/vsock/vsock.h"

#define VSOCK_QUEUE_RX      0 /* packets for the guest */
#define VSOCK_QUEUE_TX      1
#define VSOCK_QUEUE_COUNT   3 /* the third is for events, which are never sent */
#define VSOCK_BUDGET        (4 * VIRTQUEUE_SIZE_MAX) /* chains that one notification takes */

/*
 * Connections that the supervisor may still have to answer. Its answers wait in a socket that
 * takes 278 messages (Linux, default size), and must not fill it.
 */
#define VSOCK_QUESTIONS_MAX 128

struct virtio_vsock {
	struct virtio_device device;
	struct virtqueue queues[VSOCK_QUEUE_COUNT];
	struct vsock_owner owner;
	struct channel *channel;
	const struct device *dev;
	char *path;          /* option */
	uint64_t questions;  /* asked of the supervisor so far */
	unsigned unanswered; /* of them; also those that no connection waits for any more */
	unsigned budget;     /* chains to take until others have their turn */
	bool busy;           /* packets are being moved: whoever does it takes what comes up */
	bool stalled;        /* packets wait in TX until RX has room for what they cause */
	struct vsock vsock;
	struct vsock_unix host; /* these two are large, and their ends seldom used */
};

/* --- Packets --- */

/* What is written into RX may lie on a ring's index: neither queue need ever be empty. */
static bool virtio_vsock_spend(struct virtio_vsock *vv)
{
	if (vv->budget == 0)
		return false;
	vv->budget--;
	return true;
}

static void virtio_vsock_fill_rx(struct virtio_vsock *vv)
{
	struct virtqueue *q = &vv->queues[VSOCK_QUEUE_RX];
	struct iovec payload[VIRTQUEUE_SIZE_MAX];
	struct virtqueue_chain chain;
	struct vsock_header h;
	unsigned count;

	while (vsock_has_output(&vv->vsock)) {
		if (!virtio_vsock_spend(vv))
			return;
		if (!virtqueue_pop(q, &chain)) {
			if (!virtqueue_arm(q))
				return;
			continue;
		}
		if (chain.in_len <= sizeof(h)) {
			virtqueue_push(q, &chain, 0);
			continue;
		}
		count = virtqueue_slice(chain.iov + chain.out_count, chain.in_count, sizeof(h),
					SIZE_MAX, payload);
		if (!vsock_next(&vv->vsock, &h, payload, count)) {
			virtqueue_unpop(q);
			break;
		}
		virtqueue_write(&chain, 0, &h, sizeof(h));
		virtqueue_push(q, &chain, (uint32_t)sizeof(h) + h.len);
	}
	/* New buffers are no news while there is nothing to put in. */
	virtqueue_disarm(q);
}

static void virtio_vsock_receive(struct virtio_vsock *vv, const struct virtqueue_chain *chain)
{
	struct iovec payload[VIRTQUEUE_SIZE_MAX];
	struct vsock_header h;
	unsigned count;

	if (!virtqueue_read(chain, 0, &h, sizeof(h)))
		return;
	if (h.len > chain->out_len - sizeof(h)) {
		h.op = 0; /* no operation: whatever it meant is reset */
		h.len = 0;
	}
	count = virtqueue_slice(chain->iov, chain->out_count, sizeof(h), h.len, payload);
	vsock_receive(&vv->vsock, &h, payload, count);
}

static void virtio_vsock_drain_tx(struct virtio_vsock *vv)
{
	struct virtqueue *q = &vv->queues[VSOCK_QUEUE_TX];
	struct virtqueue_chain chain;

	while (virtio_vsock_spend(vv)) {
		if (!vsock_can_receive(&vv->vsock))
			virtio_vsock_fill_rx(vv);
		vv->stalled = !vsock_can_receive(&vv->vsock);
		if (vv->stalled)
			return;
		if (virtqueue_pop(q, &chain)) {
			virtio_vsock_receive(vv, &chain);
			virtqueue_push(q, &chain, 0);
		} else if (!virtqueue_arm(q)) {
			return;
		}
	}
}

static void virtio_vsock_notify(struct virtio *v, unsigned queue)
{
	struct virtio_vsock *vv = virtio_device_state(v);

	if (vv->busy)
		return;
	vv->busy = true;
	vv->budget = VSOCK_BUDGET;
	if (queue == VSOCK_QUEUE_TX)
		virtio_vsock_drain_tx(vv);
	virtio_vsock_fill_rx(vv);
	if (queue == VSOCK_QUEUE_RX && vv->stalled) {
		virtio_vsock_drain_tx(vv);
		virtio_vsock_fill_rx(vv);
	}
	vv->busy = false;
	if (vv->budget == 0)
		virtio_again(v);
}

/* Called when the host side has come up with something. */
static void virtio_vsock_wake(void *opaque)
{
	struct virtio_vsock *vv = opaque;

	if (!vv->busy)
		virtio_notify(&vv->device.virtio, VSOCK_QUEUE_RX);
}

static void virtio_vsock_reset(struct virtio *v)
{
	struct virtio_vsock *vv = virtio_device_state(v);

	vsock_clear(&vv->vsock);
	vv->stalled = false;
}

static void virtio_vsock_config_read(struct virtio *v, uint64_t offset, void *data, unsigned len)
{
	const uint64_t guest_cid = VSOCK_CID_GUEST;

	(void)v;
	if (offset >= sizeof(guest_cid))
		return;
	if (len > sizeof(guest_cid) - offset)
		len = (unsigned)(sizeof(guest_cid) - offset);
	memcpy(data, (const char *)&guest_cid + offset, len);
}

static const struct virtio_class virtio_vsock_virtio_class = {
	.name = "virtio_vsock",
	.id = 19,
	.notify = virtio_vsock_notify,
	.reset = virtio_vsock_reset,
	.config_read = virtio_vsock_config_read,
};

/* --- Connections that the guest begins --- */

static void virtio_vsock_channel_wake(void *opaque)
{
	struct virtio_vsock *vv = opaque;
	struct vsock_conn *c = &vv->vsock.conns[0];

	if (c->state == VSOCK_OPEN)
		vsock_readable(c);
}

static bool virtio_vsock_connect(void *opaque, struct vsock_conn *c)
{
	struct virtio_vsock *vv = opaque;

	if (vsock_conn_index(c) == 0) {
		c->opaque = vv->channel;
		c->buf_alloc = VSOCK_CHANNEL_BUF;
		channel_opened(vv->channel);
		vsock_accept(c, &vsock_channel_end);
		return true;
	}
	/* A guest that gives up before the answer asks no more questions for it. */
	if (vv->unanswered == VSOCK_QUESTIONS_MAX)
		return false;
	c->id = ++vv->questions * VSOCK_CONNS_MAX + vsock_conn_index(c);
	if (device_ask(vv->dev, c->id, DEVICE_CONNECT, c->host_port) < 0)
		return false;
	c->state = VSOCK_ASKING;
	vv->unanswered++;
	return true;
}

static void virtio_vsock_answered(struct device *dev, uint64_t id, int error, int fd)
{
	struct virtio_vsock *vv = dev->state;
	struct vsock_conn *c = &vv->vsock.conns[id % VSOCK_CONNS_MAX];

	vv->unanswered -= vv->unanswered > 0;
	if (c->state != VSOCK_ASKING || c->id != id) {
		if (fd >= 0)
			close(fd);
	} else if (error || fd < 0) {
		if (fd >= 0)
			close(fd);
		vsock_reset(c);
	} else {
		vsock_unix_accept(&vv->host, c, fd);
	}
}

static bool virtio_vsock_has_driver(void *opaque)
{
	const struct virtio_vsock *vv = opaque;
	const uint32_t status = vv->device.virtio.state.status;

	return (status & VIRTIO_STATUS_DRIVER_OK) && !(status & VIRTIO_STATUS_NEEDS_RESET);
}

/* --- Life --- */

static void virtio_vsock_destroy(struct device *dev)
{
	struct virtio_vsock *vv = dev->state;

	channel_set_wake(vv->channel, NULL, NULL);
	vsock_unix_destroy(&vv->host);
	virtio_device_destroy(dev);
}

static int virtio_vsock_create(struct device *dev, const struct device_host *host)
{
	struct virtio_vsock *vv = dev->state;
	int ret;

	vv->channel = host->channel;
	vv->dev = dev;
	vv->owner = (struct vsock_owner){
		.connect = virtio_vsock_connect,
		.wake = virtio_vsock_wake,
		.has_driver = virtio_vsock_has_driver,
		.opaque = vv,
	};
	vsock_init(&vv->vsock, &vv->owner);
	channel_set_wake(vv->channel, virtio_vsock_channel_wake, vv);
	ret = virtio_device_create(dev, &virtio_vsock_virtio_class, 0, vv->queues,
				   VSOCK_QUEUE_COUNT);
	if (ret == 0)
		ret = vsock_unix_create(&vv->host, &vv->vsock, dev->vm, vv->path);
	if (ret)
		virtio_vsock_destroy(dev);
	return ret;
}

/* Host sockets are closed with what they had not taken. */
static void virtio_vsock_clear(struct device *dev)
{
	struct virtio_vsock *vv = dev->state;

	channel_wipe(vv->channel);
	vsock_drop(&vv->vsock);
	virtio_device_clear(dev);
	vv->stalled = false;
}

/* --- Save and restore --- */

/* Whether the guest knows of the connection, so that it has to hear of its end. */
static bool virtio_vsock_is_known(const struct vsock_conn *c)
{
	return c->state != VSOCK_FREE && !(c->due & VSOCK_DUE_REQUEST);
}

static int virtio_vsock_save(struct device *dev, struct blob *out)
{
	const struct virtio_vsock *vv = dev->state;
	const struct vsock *v = &vv->vsock;
	uint32_t known = 0;

	for (unsigned i = 1; i < v->top; i++)
		known += virtio_vsock_is_known(&v->conns[i]);
	blob_put_u32(out, known);
	for (unsigned i = 1; i < v->top; i++) {
		if (!virtio_vsock_is_known(&v->conns[i]))
			continue;
		blob_put_u32(out, v->conns[i].host_port);
		blob_put_u32(out, v->conns[i].guest_port);
	}
	blob_put_u32(out, v->reset_count);
	for (unsigned i = 0; i < v->reset_count; i++)
		blob_put(out, &v->resets[(v->reset_first + i) % VSOCK_RESETS_MAX],
			 sizeof(v->resets[0]));
	channel_save(vv->channel, out);
	return 0;
}

static int virtio_vsock_restore_conns(struct vsock *v, struct blob *in)
{
	uint32_t known = blob_get_u32(in);

	if (known >= VSOCK_CONNS_MAX)
		return failf(EINVAL, "virtio_vsock: %u saved connections are too many", known);
	while (known-- > 0 && !in->failed) {
		uint32_t host_port = blob_get_u32(in);
		struct vsock_conn *c = vsock_conn_new(v, host_port, blob_get_u32(in));

		if (c)
			c->state = VSOCK_RESET;
	}
	v->reset_first = 0;
	v->reset_count = blob_get_u32(in);
	if (v->reset_count > VSOCK_RESETS_MAX)
		return failf(EINVAL, "virtio_vsock: %u saved resets are too many", v->reset_count);
	for (unsigned i = 0; i < v->reset_count; i++)
		blob_get(in, &v->resets[i], sizeof(v->resets[i]));
	return 0;
}

static int virtio_vsock_restore(struct device *dev, struct blob *in)
{
	struct virtio_vsock *vv = dev->state;
	struct vsock_conn *c = &vv->vsock.conns[0];
	int ret = virtio_device_restore(dev, in);

	if (ret)
		return ret;
	if (!vsock_channel_valid(c) || vv->vsock.next_port < VSOCK_PORT_FIRST ||
	    vv->vsock.next_port >= 2 * VSOCK_PORT_FIRST)
		return failf(EINVAL, "virtio_vsock: its saved function channel is not valid");
	ret = virtio_vsock_restore_conns(&vv->vsock, in);
	if (ret == 0)
		ret = channel_load(vv->channel, in);
	if (ret)
		return ret;
	if (!in->failed && channel_is_open(vv->channel) != (c->state == VSOCK_OPEN))
		return failf(EINVAL, "virtio_vsock: its saved function channel is open at one "
				     "end only");
	if (c->state == VSOCK_OPEN) {
		c->opaque = vv->channel;
		c->end = &vsock_channel_end;
	}
	vsock_restored(&vv->vsock);
	return 0;
}

/* clang-format off */
static const struct field virtio_vsock_fields[] = {
	VIRTIO_DEVICE_FIELDS(struct virtio_vsock, device),
	VIRTQUEUE_FIELDS(struct virtio_vsock, queues[0]),
	VIRTQUEUE_FIELDS(struct virtio_vsock, queues[1]),
	VIRTQUEUE_FIELDS(struct virtio_vsock, queues[2]),
	FIELD(struct virtio_vsock, vsock.next_port),
	FIELD(struct virtio_vsock, vsock.conns[0].state),
	FIELD(struct virtio_vsock, vsock.conns[0].due),
	FIELD(struct virtio_vsock, vsock.conns[0].guest_shut),
	FIELD(struct virtio_vsock, vsock.conns[0].host_shut),
	FIELD(struct virtio_vsock, vsock.conns[0].asked),
	FIELD(struct virtio_vsock, vsock.conns[0].host_port),
	FIELD(struct virtio_vsock, vsock.conns[0].guest_port),
	FIELD(struct virtio_vsock, vsock.conns[0].buf_alloc),
	FIELD(struct virtio_vsock, vsock.conns[0].received),
	FIELD(struct virtio_vsock, vsock.conns[0].fwd_cnt),
	FIELD(struct virtio_vsock, vsock.conns[0].fwd_told),
	FIELD(struct virtio_vsock, vsock.conns[0].guest_buf_alloc),
	FIELD(struct virtio_vsock, vsock.conns[0].guest_fwd_cnt),
	FIELD(struct virtio_vsock, vsock.conns[0].sent),
	FIELD_END
};
/* clang-format on */

static const struct device_option virtio_vsock_options[] = {
	{ .key = KEY_TEXT(struct virtio_vsock, path, "path", 1, UNIX_PATH_LISTEN_MAX),
	  .value = "PATH",
	  .help = "unix socket that reaches the guest's vsock ports (none)",
	  .answers = DEVICE_CONNECT,
	  .anew = true },
	{ .key = KEY_END },
};

const struct device_class virtio_vsock_class = {
	.name = "virtio_vsock",
	.description = "streams between guest and host (CID 3); the function channel runs over it",
	.options = virtio_vsock_options,
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.oldest = 1,
	.size = sizeof(struct virtio_vsock),
	.fields = virtio_vsock_fields,
	.create = virtio_vsock_create,
	.destroy = virtio_vsock_destroy,
	.start = virtio_device_start,
	.stop = virtio_device_stop,
	.clear = virtio_vsock_clear,
	.describe = virtio_device_describe,
	.answered = virtio_vsock_answered,
	.save = virtio_vsock_save,
	.restore = virtio_vsock_restore,
};
