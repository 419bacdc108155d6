/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest powers off or resets: the sleep control, sleep status and reset registers
 * of ACPI's hardware-reduced model (ACPI 6.4, 4.8.3.7 and 4.8.3.6) and the
 * keyboard controller's reset pulse, of which nothing else is there; and how it is asked to: a
 * power button, whose press is an edge that the generic event device (5.6.9) tells. Holds no state.
 */
#include <errno.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/irqchip.h"
#include "arch/layout.h"
#include "devices/device.h"

/* Registers at LAYOUT_PORT_POWER. */
#define POWER_SIZE                 3u

#define POWER_SLP_EN               0x20u
#define POWER_SLP_TYP(v)           (((v) >> 2) & 7u)

#define POWER_KEYBOARD_PULSE_RESET 0xfeu

#define POWER_BUTTON_PRESSED       0x80u /* what ACPI notifies a button of */

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

/* A guest that has not unmasked the pin knows no such button, or is not that far yet. */
static int power_press(struct device *dev)
{
	struct vm *vm = dev->vm;

	if (!irqchip_pin_open(vm->irqchip, LAYOUT_POWER_GSI))
		return failf(ENOTCONN, "the guest does not listen to its ACPI power button");
	vm_irq(vm, LAYOUT_POWER_GSI, true);
	vm_irq(vm, LAYOUT_POWER_GSI, false);
	return 0;
}

static const struct device_power power_registers = {
	.sleep_control = LAYOUT_PORT_POWER + LAYOUT_POWER_SLEEP_CONTROL,
	.sleep_status = LAYOUT_PORT_POWER + LAYOUT_POWER_SLEEP_STATUS,
	.reset = LAYOUT_PORT_POWER + LAYOUT_POWER_RESET,
	.reset_value = LAYOUT_POWER_RESET_VALUE,
};

/* What to write to power off, the button, and the generic event device that says when it is pressed. */
static void power_describe(const struct device *dev, struct aml *a)
{
	const uint32_t s5[] = { LAYOUT_POWER_SLEEP_TYPE_S5, 0, 0, 0 };
	size_t device, part;

	(void)dev;
	aml_name(a, "\\_S5_");
	aml_package(a, s5, 4);
	device = aml_open_device(a, "PWRB");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C0C");
	aml_close(a, device);
	device = aml_open_device(a, "GED0");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name(a, "_CRS");
	part = aml_open_resources(a);
	aml_interrupt_edge(a, LAYOUT_POWER_GSI);
	aml_close_resources(a, part);
	part = aml_open_method(a, "_EVT", 1);
	aml_notify(a, "PWRB", POWER_BUTTON_PRESSED);
	aml_close(a, part);
	aml_close(a, device);
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
	.description =
		"ACPI power button, power-off and reset registers, keyboard controller reset",
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.oldest = 1,
	.create = power_create,
	.describe = power_describe,
	.power = &power_registers,
	.press = power_press,
};
