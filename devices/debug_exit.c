/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port by which a test guest ends the machine: the byte written to it becomes the
 * exit status. Four ports wide, so that a guest may write any width; the low byte counts.
 */
#include <string.h>

#include "arch/layout.h"
#include "devices/device.h"

static void debug_exit_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	struct device *dev = opaque;
	const uint8_t *bytes = data;
	uint8_t code = bytes[0];

	if (!write)
		memset(data, 0, len);
	else if (offset == 0)
		vm_end(dev->vm, VM_END_DEBUG_EXIT, code, "the guest ended by debug_exit with %u",
		       code);
}

static int debug_exit_create(struct device *dev, const struct device_host *host)
{
	(void)host;
	return bus_claim(&dev->vm->pio, LAYOUT_PORT_DEBUG_EXIT, 4, debug_exit_io, dev,
			 "debug_exit");
}

const struct device_class debug_exit_class = {
	.name = "debug_exit",
	.description = "port 0xf4: a byte written ends the machine with that exit status",
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.oldest = 1,
	.create = debug_exit_create,
};
