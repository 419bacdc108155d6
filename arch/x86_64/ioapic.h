/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC in user space (Intel 82093AA), x86_64's interrupt controller (arch/irqchip.h): 24
 * pins, or as many more as devices want, delivered with KVM_SIGNAL_MSI. GSI routes are set only for pins that a guest programs as
 * level triggered, because KVM reports an EOI (KVM_EXIT_IOAPIC_EOI) by route. Only ioapic.c and
 * tests look inside.
 */
#ifndef VIRGA_ARCH_X86_64_IOAPIC_H
#define VIRGA_ARCH_X86_64_IOAPIC_H

#include <stdint.h>

#include "arch/irqchip.h"

#define IOAPIC_PINS     24 /* at least, as on the chip */
#define IOAPIC_PINS_MAX 64

/* Guest-visible and saved. */
struct ioapic_state {
	uint32_t id;
	uint32_t select;
	uint32_t level[IOAPIC_PINS_MAX / 32]; /* bit per pin: the line as the device drives it */
	uint32_t pins;
	uint64_t redirect[IOAPIC_PINS_MAX]; /* of which the first `pins` are saved */
};

struct irqchip {
	struct vm *vm;
	struct ioapic_state state;
	unsigned routed; /* level pins that have a GSI route */
};

#endif
