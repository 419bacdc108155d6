/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controller of a machine: what an ISA's folder gives the rest. x86_64 has an I/O APIC,
 * whose local halves are KVM's and part of each vCPU.
 */
#ifndef VIRGA_ARCH_IRQCHIP_H
#define VIRGA_ARCH_IRQCHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"
#include "arch/base/field.h"

struct vm;
struct irqchip;

/* Its section in a snapshot, the version that is written and the oldest that is read. */
#if defined(__x86_64__)
#define IRQCHIP_SECTION "ioapic"
#define IRQCHIP_VERSION 2u
#define IRQCHIP_OLDEST  1u
#endif

extern const struct field irqchip_fields[]; /* an entry for each pin follows */

/*
 * Makes vm->irqchip, reset, with KVM's half of it; after the memory slots, before any vCPU. 0 or
 * -errno with a sentence. irqchip_destroy() is vm_destroy()'s, of one that was not made too.
 */
int irqchip_create(struct vm *vm);
void irqchip_destroy(struct vm *vm);

/*
 * A device is on that pin: the controller has it. Before the machine runs. -ENOSPC with a sentence
 * that names the device when there cannot be so many.
 */
int irqchip_want(struct irqchip *chip, unsigned pin, const char *device);

/* Drives a pin; one that there is not is ignored. VM lock held. */
void irqchip_set_pin(struct irqchip *chip, unsigned pin, bool level);

/* Whether the guest takes what comes on that pin: it is not masked. VM lock held. */
bool irqchip_pin_open(const struct irqchip *chip, unsigned pin);

/* An EOI for a level-triggered vector came from a vCPU. VM lock held. */
void irqchip_eoi(struct irqchip *chip, uint8_t vector);

/*
 * Before a stopped machine's vCPUs are saved: takes EOIs that a vCPU has made and KVM has yet to
 * report, of which no saved state tells. 0 or -errno with a sentence. VM lock held.
 */
int irqchip_settle(struct irqchip *chip);

/* Appends its state. */
void irqchip_save(const struct irqchip *chip, struct blob *out);

/*
 * Whether a state that was saved in a version that is read can be loaded, and loads it. path: the
 * snapshot, for the sentence. 0, or -errno with one; check changes nothing.
 */
int irqchip_check(const struct irqchip *chip, const char *path, uint32_t version, const void *data,
		  size_t len);
int irqchip_load(struct irqchip *chip, const char *path, uint32_t version, const void *data,
		 size_t len);

#endif
