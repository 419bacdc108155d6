/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC's registers and delivery, with KVM's ioctls recorded.
 * wrap: ioctl
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <string.h>

#include "arch/layout.h"
#include "arch/vm.h"
#include "arch/x86_64/ioapic.h"

#define LEVEL  (1u << 15)
#define MASKED (1u << 16)

int __wrap_ioctl(int fd, unsigned long request, ...);

/* What reached KVM since the last reset. */
static struct {
	unsigned msis;
	struct kvm_msi msi;
	unsigned routings;
	uint32_t routes;
} kvm;

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == KVM_SIGNAL_MSI) {
		kvm.msis++;
		memcpy(&kvm.msi, arg, sizeof(kvm.msi));
	} else if (request == KVM_SET_GSI_ROUTING) {
		kvm.routings++;
		kvm.routes = ((struct kvm_irq_routing *)arg)->nr;
	}
	return 0;
}

static struct vm *machine(void)
{
	static struct vm vm;

	irqchip_destroy(&vm);
	memset(&vm, 0, sizeof(vm));
	memset(&kvm, 0, sizeof(kvm));
	assert_int_equal(irqchip_create(&vm), 0);
	return &vm;
}

static void reg_write(struct vm *vm, uint8_t reg, uint32_t value)
{
	uint32_t select = reg;

	bus_io(&vm->mmio, LAYOUT_IOAPIC, &select, 4, true);
	bus_io(&vm->mmio, LAYOUT_IOAPIC + 0x10, &value, 4, true);
}

static uint32_t reg_read(struct vm *vm, uint8_t reg)
{
	uint32_t select = reg, value = 0;

	bus_io(&vm->mmio, LAYOUT_IOAPIC, &select, 4, true);
	bus_io(&vm->mmio, LAYOUT_IOAPIC + 0x10, &value, 4, false);
	return value;
}

static void program(struct vm *vm, unsigned pin, uint32_t low, uint32_t high)
{
	reg_write(vm, (uint8_t)(0x11 + 2 * pin), high);
	reg_write(vm, (uint8_t)(0x10 + 2 * pin), low);
}

static void test_registers(void **state)
{
	struct vm *vm = machine();

	(void)state;
	assert_int_equal(reg_read(vm, 1), 0x11 | 23 << 16);
	reg_write(vm, 0, 0xff000000);
	assert_int_equal(reg_read(vm, 0), 0x0f000000);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		assert_int_equal(reg_read(vm, (uint8_t)(0x10 + 2 * pin)), MASKED);
	/* Delivery status and remote IRR are read-only. */
	program(vm, 3, 0xffffffff & ~MASKED & ~LEVEL, 0xaa000000);
	assert_int_equal(reg_read(vm, 0x16), 0xfffeffff & ~LEVEL & ~(1u << 12) & ~(1u << 14));
	assert_int_equal(reg_read(vm, 0x17), 0xaa000000);
	/* Past the last pin there is nothing. */
	reg_write(vm, 0x40, 0);
	assert_int_equal(reg_read(vm, 0x40), 0);
	assert_int_equal(reg_read(vm, 0xff), 0);
}

static void test_edge(void **state)
{
	struct vm *vm = machine();

	(void)state;
	program(vm, 16, 0x31, 0x02000000);
	vm_irq(vm, 16, true);
	vm_irq(vm, 16, true);
	assert_int_equal(kvm.msis, 1);
	assert_int_equal(kvm.msi.address_lo, 0xfee02000);
	assert_int_equal(kvm.msi.data, 0x31);
	vm_irq(vm, 16, false);
	vm_irq(vm, 16, true);
	assert_int_equal(kvm.msis, 2);
	/* Masked: lost, as on the chip. */
	program(vm, 17, MASKED | 0x32, 0);
	vm_irq(vm, 17, true);
	assert_int_equal(kvm.msis, 2);
	/* Edge pins need no route, so a start never pays for one. */
	assert_int_equal(kvm.routings, 0);
	vm_irq(vm, 24, true);
	vm_irq(vm, 4000000000u, true);
	assert_int_equal(kvm.msis, 2);
}

/* Whether somebody listens: what the power button asks. */
static void test_open(void **state)
{
	struct vm *vm = machine();

	(void)state;
	assert_false(irqchip_pin_open(vm->irqchip, 9));
	program(vm, 9, 0x31, 0);
	assert_true(irqchip_pin_open(vm->irqchip, 9));
	assert_false(irqchip_pin_open(vm->irqchip, 8));
	program(vm, 9, MASKED | 0x31, 0);
	assert_false(irqchip_pin_open(vm->irqchip, 9));
	assert_false(irqchip_pin_open(vm->irqchip, 4000000000u));
}

static void test_level(void **state)
{
	struct vm *vm = machine();

	(void)state;
	program(vm, 5, LEVEL | 0x41, 0);
	assert_int_equal(kvm.routes, 1);
	vm_irq(vm, 5, true);
	vm_irq(vm, 5, true);
	assert_int_equal(kvm.msis, 1);
	/* Still asserted at EOI: again; deasserted: not. */
	irqchip_eoi(vm->irqchip, 0x41);
	assert_int_equal(kvm.msis, 2);
	vm_irq(vm, 5, false);
	irqchip_eoi(vm->irqchip, 0x41);
	assert_int_equal(kvm.msis, 2);
	irqchip_eoi(vm->irqchip, 0x42);
	/* Asserted while masked is delivered when unmasked. */
	program(vm, 5, LEVEL | MASKED | 0x41, 0);
	vm_irq(vm, 5, true);
	assert_int_equal(kvm.msis, 2);
	program(vm, 5, LEVEL | 0x41, 0);
	assert_int_equal(kvm.msis, 3);
}

/* Saves and loads it, and sees that the check says the same beforehand. */
static int reload(struct vm *vm)
{
	struct blob saved = { 0 };
	int check, ret;

	irqchip_save(vm->irqchip, &saved);
	check = irqchip_check(vm->irqchip, "here", IRQCHIP_VERSION, saved.data, saved.len);
	ret = irqchip_load(vm->irqchip, "here", IRQCHIP_VERSION, saved.data, saved.len);
	assert_int_equal(check, ret);
	blob_fini(&saved);
	return ret;
}

static void test_restored(void **state)
{
	struct vm *vm = machine();

	(void)state;
	vm->irqchip->state.redirect[7] = LEVEL | 0x50;
	assert_int_equal(reload(vm), 0);
	assert_int_equal(kvm.routes, 1);
	vm->irqchip->state.select = 0x100;
	assert_true(reload(vm) < 0);
	vm->irqchip->state.select = 0;
	vm->irqchip->state.level[0] = 1u << 24;
	assert_true(reload(vm) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers), cmocka_unit_test(test_edge),
		cmocka_unit_test(test_open),      cmocka_unit_test(test_level),
		cmocka_unit_test(test_restored),
	};

	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}
