/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a virtio device (devices/virtio/device.h), between its class and its core.
 */
#include "devices/virtio/device.h"

static struct virtio *virtio_device_core(struct device *dev)
{
	struct virtio_device *device = dev->state;

	return &device->virtio;
}

void *virtio_device_state(struct virtio *v)
{
	return (char *)v - offsetof(struct virtio_device, virtio);
}

int virtio_device_create(struct device *dev, const struct virtio_class *class, uint64_t features,
			 struct virtqueue *queues, unsigned count)
{
	struct virtio_device *device = dev->state;
	int ret;

	device->virtio.class = class;
	device->virtio.features = features;
	device->virtio.queues = queues;
	device->virtio.queue_count = count;
	ret = virtio_mmio_create(&device->mmio, &device->virtio, dev->vm);
	if (ret < 0)
		virtio_fini(&device->virtio);
	return ret;
}

void virtio_device_destroy(struct device *dev)
{
	virtio_fini(virtio_device_core(dev));
}

int virtio_device_start(struct device *dev)
{
	virtio_start(virtio_device_core(dev));
	return 0;
}

void virtio_device_stop(struct device *dev)
{
	virtio_stop(virtio_device_core(dev));
}

void virtio_device_clear(struct device *dev)
{
	virtio_clear(virtio_device_core(dev));
}

int virtio_device_restore(struct device *dev, struct blob *in)
{
	(void)in;
	return virtio_restored(virtio_device_core(dev));
}

void virtio_device_describe(const struct device *dev, struct aml *a)
{
	const struct virtio_device *device = dev->state;

	virtio_mmio_describe(&device->mmio, a);
}
