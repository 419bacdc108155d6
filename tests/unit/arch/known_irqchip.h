/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of other folders ask of an interrupt controller whose state only its ISA's folder knows:
 * one without KVM that has a state to be saved, and whether that was loaded.
 */
#ifndef VIRGA_TESTS_UNIT_KNOWN_IRQCHIP_H
#define VIRGA_TESTS_UNIT_KNOWN_IRQCHIP_H

#include "arch/irqchip.h"

/* As it is before anything is loaded; free() frees it. */
struct irqchip *known_irqchip_new(struct vm *vm);

/* Puts values into its state; and the test ends unless the saved bytes hold those. */
void known_irqchip_set(struct irqchip *chip);
void known_irqchip_expect(uint32_t version, const void *data, size_t len);

unsigned known_irqchip_pins(const struct irqchip *chip);

#endif
