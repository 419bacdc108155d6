/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: registers of every width, lines that rise and fall, ends of interrupts, and states
 * that are loaded. What it asks of KVM is looked at by tests/fuzz/lib/kvm.c, and done by nobody.
 */
/* wrap: ioctl */
#include <string.h>

#include "arch/layout.h"
#include "arch/vm.h"
#include "arch/x86_64/ioapic.h"
#include "tests/fuzz/lib/bytes.h"

static void load(struct vm *vm, struct bytes *in)
{
	struct blob saved = { 0 };
	uint8_t how = bytes_u8(in);
	uint32_t version = 1 + how % 2;

	irqchip_save(vm->irqchip, &saved);
	must(!saved.failed);
	bytes_damage(in, saved.data, &saved.len);
	if (irqchip_check(vm->irqchip, "fuzz", version, saved.data, saved.len) == 0)
		must(irqchip_load(vm->irqchip, "fuzz", version, saved.data, saved.len) == 0);
	blob_fini(&saved);
}

static void act(struct vm *vm, struct bytes *in)
{
	uint8_t what = bytes_u8(in), pin = bytes_u8(in);
	uint32_t select = pin;
	uint64_t value;

	switch (what & 7) {
	case 0:
	case 1:
	case 2: /* a register, as drivers do it */
		bytes_fill(in, &value, 4);
		bus_io(&vm->mmio, LAYOUT_IOAPIC, &select, 4, true);
		bus_io(&vm->mmio, LAYOUT_IOAPIC + 0x10, &value, 4, what & 16);
		break;
	case 3: /* any access */
		value = bytes_odd(in);
		bus_io(&vm->mmio, LAYOUT_IOAPIC + pin, &value, 1u << (what >> 4 & 3), what & 64);
		break;
	case 4:
	case 5:
		irqchip_set_pin(vm->irqchip, pin, what & 16);
		irqchip_pin_open(vm->irqchip, pin);
		break;
	case 6:
		irqchip_eoi(vm->irqchip, pin);
		break;
	default:
		if (what & 16)
			irqchip_want(vm->irqchip, pin, "fuzz");
		else
			load(vm, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct bytes in = { data, size };

	memset(&vm, 0, sizeof(vm));
	must(irqchip_create(&vm) == 0);
	while (in.left)
		act(&vm, &in);
	must(vm.irqchip->state.pins <= IOAPIC_PINS_MAX);
	irqchip_destroy(&vm);
	return 0;
}
