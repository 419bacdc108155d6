/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC in user space (Intel 82093AA): 24 pins, delivered with
 * KVM_SIGNAL_MSI. GSI routes are set only for pins that a guest programs as level
 * triggered, because KVM reports an EOI (KVM_EXIT_IOAPIC_EOI) by route.
 */
#ifndef VIRGA_ARCH_X86_64_IOAPIC_H
#define VIRGA_ARCH_X86_64_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/base/field.h"

#define IOAPIC_PINS    24
#define IOAPIC_VERSION 1 /* of the saved fields */

struct vm;

/* Guest-visible and saved. */
struct ioapic_state {
	uint32_t id;
	uint32_t select;
	uint32_t level; /* bit per pin: the line as the device drives it */
	uint64_t redirect[IOAPIC_PINS];
};

struct ioapic {
	struct vm *vm;
	struct ioapic_state state;
	uint32_t routed; /* level pins that have a GSI route */
};

extern const struct field ioapic_fields[];

/* Resets the registers and claims the MMIO page. */
int ioapic_init(struct ioapic *io, struct vm *vm);

/* Drives a pin. VM lock held. */
void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level);

/* An EOI for a level-triggered vector came from a local APIC. VM lock held. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);

/* After loading `state`: checks it and sets the routes it needs. 0 or -errno, sentence. */
int ioapic_restored(struct ioapic *io);

#endif
