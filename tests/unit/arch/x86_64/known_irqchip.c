/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/unit/arch/known_irqchip.h. */
#include "tests/unit/arch/known_irqchip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "arch/x86_64/ioapic.h"

struct irqchip *known_irqchip_new(struct vm *vm)
{
	struct irqchip *chip = calloc(1, sizeof(*chip));

	assert_non_null(chip);
	chip->vm = vm;
	chip->state.pins = IOAPIC_PINS;
	return chip;
}

void known_irqchip_set(struct irqchip *chip)
{
	chip->state.id = 7;
	chip->state.redirect[3] = 0x1234563890ull;
}

void known_irqchip_expect(uint32_t version, const void *data, size_t len)
{
	struct blob in = blob_reader(data, len);
	struct ioapic_state state;

	fields_load(irqchip_fields, version, &state, &in);
	blob_get(&in, state.redirect, IOAPIC_PINS * sizeof(state.redirect[0]));
	assert_false(in.failed);
	assert_int_equal(state.id, 7);
	assert_true(state.redirect[3] == 0x1234563890ull);
}

unsigned known_irqchip_pins(const struct irqchip *chip)
{
	return chip->state.pins;
}
