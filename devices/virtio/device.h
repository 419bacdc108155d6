/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device does alike, as callbacks of a device class: a device that has nothing to
 * add names them in its class. Its state begins with a struct virtio_device.
 */
#ifndef VIRGA_DEVICES_VIRTIO_DEVICE_H
#define VIRGA_DEVICES_VIRTIO_DEVICE_H

#include "devices/device.h"
#include "devices/virtio/mmio.h"

struct virtio_device {
	struct virtio_mmio mmio;
	struct virtio virtio;
};

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): member designators */
/* What is saved of it; the fields of each queue follow (VIRTQUEUE_FIELDS). */
#define VIRTIO_DEVICE_FIELDS(type, device)                                                        \
	VIRTIO_MMIO_FIELDS(type, device.mmio),                                                    \
	VIRTIO_FIELDS(type, device.virtio)
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

/*
 * The next slot of the machine for dev, with `features` of its own and `count` queues, which are
 * members of its state. 0, or -errno with a sentence and nothing left to undo.
 */
int virtio_device_create(struct device *dev, const struct virtio_class *class, uint64_t features,
			 struct virtqueue *queues, unsigned count);
void virtio_device_destroy(struct device *dev);

int virtio_device_start(struct device *dev);
void virtio_device_stop(struct device *dev);
void virtio_device_clear(struct device *dev);
int virtio_device_restore(struct device *dev, struct blob *in);
void virtio_device_describe(const struct device *dev, struct aml *a);

/* The state of the device that v is the core of. */
void *virtio_device_state(struct virtio *v);

#endif
