/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port where a guest that cannot use HLT waits. The contract: the guest reads the
 * port, with any width, when it has nothing to do; the read gives 0 once the VMM has
 * published a used buffer since the last such read, or earlier: a guest must allow for spurious
 * wake-ups and look at its rings again. The read also stands for a notification of every
 * virtio queue, so a guest that parks need not ring any.
 */
#include <string.h>

#include "arch/layout.h"
#include "devices/device.h"

static void park_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	struct device *dev = opaque;

	(void)offset;
	if (write)
		return;
	vm_poll(dev->vm);
	memset(data, 0, len);
	vm_park(dev->vm);
}

static int park_create(struct device *dev, const struct device_host *host)
{
	(void)host;
	return bus_claim(&dev->vm->pio, LAYOUT_PORT_PARK, 4, park_io, dev, "park");
}

const struct device_class park_class = {
	.name = "park",
	.description = "port 0xf8: a read waits until a virtio device has something for the guest",
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.oldest = 1,
	.create = park_create,
};
