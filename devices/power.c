/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest powers off or resets: the sleep control, sleep status and reset registers
 * of ACPI's hardware-reduced model (ACPI 6.4, 4.8.3.7 and 4.8.3.6) and the
 * keyboard controller's reset pulse, of which nothing else is there. Holds no state.
 */
#include <string.h>

#include "arch/layout.h"
#include "devices/device.h"

/* Registers at LAYOUT_PORT_POWER; boot/ describes them to the guest in the FADT. */
#define POWER_SIZE                 3u

#define POWER_SLP_EN               0x20u
#define POWER_SLP_TYP(v)           (((v) >> 2) & 7u)

#define POWER_KEYBOARD_PULSE_RESET 0xfeu

static void power_reset(struct device *dev)
{
	vm_end(dev->vm, VM_END_RESET, 0, "the guest asked for a reset");
}

static void power_write(struct device *dev, uint64_t reg, uint8_t value)
{
	if (reg == LAYOUT_POWER_SLEEP_CONTROL && (value & POWER_SLP_EN) &&
	    POWER_SLP_TYP(value) == LAYOUT_POWER_SLEEP_TYPE_S5)
		vm_end(dev->vm, VM_END_POWEROFF, 0, "the guest powered off");
	else if (reg == LAYOUT_POWER_RESET && value == LAYOUT_POWER_RESET_VALUE)
		power_reset(dev);
}

static void power_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	const uint8_t *bytes = data;

	/* Sleep status never shows a wake-up: a machine that sleeps has ended. */
	if (!write)
		memset(data, 0, len);
	for (unsigned i = 0; write && i < len; i++)
		power_write(opaque, offset + i, bytes[i]);
}

static void power_keyboard_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	const uint8_t *bytes = data;

	(void)offset;
	if (!write)
		memset(data, 0, len);
	else if (bytes[0] == POWER_KEYBOARD_PULSE_RESET)
		power_reset(opaque);
}

static int power_create(struct device *dev, const struct device_host *host)
{
	int ret;

	(void)host;
	ret = bus_claim(&dev->vm->pio, LAYOUT_PORT_POWER, POWER_SIZE, power_io, dev, "power");
	if (ret)
		return ret;
	return bus_claim(&dev->vm->pio, LAYOUT_PORT_KEYBOARD, 1, power_keyboard_io, dev, "power");
}

const struct device_class power_class = {
	.name = "power",
	.description = "ACPI power-off and reset registers, keyboard controller reset",
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.create = power_create,
};
