/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device (virtio 1.2, 5.4): fills the guest's buffers from the host's getrandom(2). It
 * keeps nothing, so clones of one template never get the same bytes.
 */
/* syscalls: getrandom - entropy for the guest */
#include <sys/random.h>

#include "devices/device.h"
#include "devices/virtio/device.h"

#define RNG_BYTES_MAX 4096u              /* that one buffer gets; the guest asks for more */
#define RNG_BUDGET    VIRTQUEUE_SIZE_MAX /* buffers that one notification fills */

struct virtio_rng {
	struct virtio_device device;
	struct virtqueue queues[1];
};

/* Straight into guest memory. Returns the bytes filled: fewer when that cannot be written. */
static uint32_t virtio_rng_fill(const struct virtqueue_chain *chain)
{
	uint32_t filled = 0;

	for (unsigned i = 0; i < chain->in_count && filled < RNG_BYTES_MAX; i++) {
		const struct iovec *part = &chain->iov[chain->out_count + i];
		size_t room = RNG_BYTES_MAX - filled;
		ssize_t n =
			getrandom(part->iov_base, part->iov_len < room ? part->iov_len : room, 0);

		filled += n > 0 ? (uint32_t)n : 0;
		if (n < (ssize_t)part->iov_len)
			break;
	}
	return filled;
}

static void virtio_rng_notify(struct virtio *v, unsigned queue)
{
	struct virtqueue *q = &v->queues[queue];
	struct virtqueue_chain chain;

	for (unsigned left = RNG_BUDGET; left > 0;) {
		if (virtqueue_pop(q, &chain)) {
			virtqueue_push(q, &chain, virtio_rng_fill(&chain));
			left--;
		} else if (!virtqueue_arm(q)) {
			return;
		}
	}
	virtio_again(v);
}

static const struct virtio_class virtio_rng_virtio_class = {
	.name = "virtio_rng",
	.id = 4,
	.notify = virtio_rng_notify,
};

static int virtio_rng_create(struct device *dev, const struct device_host *host)
{
	struct virtio_rng *rng = dev->state;

	(void)host;
	return virtio_device_create(dev, &virtio_rng_virtio_class, 0, rng->queues, 1);
}

/* clang-format off */
static const struct field virtio_rng_fields[] = {
	VIRTIO_DEVICE_FIELDS(struct virtio_rng, device),
	VIRTQUEUE_FIELDS(struct virtio_rng, queues[0]),
	FIELD_END
};
/* clang-format on */

const struct device_class virtio_rng_class = {
	.name = "virtio_rng",
	.description = "entropy for the guest, from the host; a Linux has it unless --device none",
	.habit = DEVICE_FOR_LINUX,
	.version = 1,
	.oldest = 1,
	.size = sizeof(struct virtio_rng),
	.fields = virtio_rng_fields,
	.create = virtio_rng_create,
	.destroy = virtio_device_destroy,
	.start = virtio_device_start,
	.stop = virtio_device_stop,
	.clear = virtio_device_clear,
	.describe = virtio_device_describe,
	.restore = virtio_device_restore,
};
