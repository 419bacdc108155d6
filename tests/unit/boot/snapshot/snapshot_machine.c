/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/boot/snapshot/snapshot_machine.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "tests/unit/arch/known_irqchip.h"
#include "tests/unit/boot/snapshot/snapshot_machine.h"

char machine_done[32];
int machine_check_result;

static void machine_note(char what)
{
	size_t len = strlen(machine_done);

	assert_true(len + 1 < sizeof(machine_done));
	machine_done[len] = what;
}

int __wrap_vm_clock_get(struct vm *vm, uint64_t *ns);
int __wrap_vm_clock_set(struct vm *vm, uint64_t ns);
int __wrap_vcpu_save(struct vcpu *vcpu, struct blob *out);
int __wrap_vcpu_check(struct vcpu *vcpu, const void *state, size_t len);
int __wrap_vcpu_load(struct vcpu *vcpu, const void *state, size_t len, bool time,
		     unsigned *skipped);
int __wrap_irqchip_load(struct irqchip *chip, const char *path, uint32_t version, const void *data,
			size_t len);

int __wrap_vm_clock_get(struct vm *vm, uint64_t *ns)
{
	(void)vm;
	*ns = 123456789;
	return 0;
}

int __wrap_vm_clock_set(struct vm *vm, uint64_t ns)
{
	(void)vm;
	assert_true(ns == 123456789);
	machine_note('c');
	return 0;
}

int __wrap_vcpu_save(struct vcpu *vcpu, struct blob *out)
{
	blob_put_u32(out, 0xc0 + vcpu->index);
	return 0;
}

int __wrap_vcpu_check(struct vcpu *vcpu, const void *state, size_t len)
{
	struct blob in = blob_reader(state, len);

	assert_int_equal(blob_get_u32(&in), 0xc0 + vcpu->index);
	return machine_check_result
		       ? failf(-machine_check_result, "vcpu %u: no such CPU", vcpu->index)
		       : 0;
}

int __wrap_vcpu_load(struct vcpu *vcpu, const void *state, size_t len, bool time, unsigned *skipped)
{
	(void)state;
	(void)len;
	assert_true(time);
	*skipped += 1;
	machine_note((char)('0' + vcpu->index));
	return 0;
}

int __wrap_irqchip_load(struct irqchip *chip, const char *path, uint32_t version, const void *data,
			size_t len)
{
	(void)chip;
	assert_non_null(path);
	known_irqchip_expect(version, data, len);
	machine_note('i');
	return 0;
}

static const struct field fake_fields[] = {
	FIELD(struct fake_state, number),
	FIELD_ARRAY(struct fake_state, bytes),
	FIELD_END,
};

static int fake_restore(struct device *dev, struct blob *in)
{
	const struct fake_state *fake = dev->state;

	assert_int_equal(fake->number, dev->class->version * 100);
	assert_int_equal(blob_get_u32(in), 42);
	machine_note(dev->class->name[5]);
	return 0;
}

static int fake_save(struct device *dev, struct blob *out)
{
	(void)dev;
	blob_put_u32(out, 42);
	return 0;
}

/* clang-format off */
const struct device_class fake_a = {
	.name = "fake_a", .version = 1, .oldest = 1, .size = sizeof(struct fake_state),
	.fields = fake_fields, .save = fake_save, .restore = fake_restore,
};
const struct device_class fake_b = {
	.name = "fake_b", .version = 2, .oldest = 2, .size = sizeof(struct fake_state),
	.fields = fake_fields, .save = fake_save, .restore = fake_restore,
};
/* clang-format on */

struct machine *machine_make(struct memory *memory)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->vm.memory = *memory;
	m->vm.vcpu_count = 2;
	m->vm.vcpus[1].index = 1;
	m->vm.virtio_slots = 1;
	m->vm.irqchip = known_irqchip_new(&m->vm);
	m->devices = (struct devices){ .count = 2, .list = m->list };
	m->list[0] =
		(struct device){ .class = &fake_a, .name = "fake_a", .vm = &m->vm, .state = &m->a };
	m->list[1] =
		(struct device){ .class = &fake_b, .name = "fake_b", .vm = &m->vm, .state = &m->b };
	memset(machine_done, 0, sizeof(machine_done));
	return m;
}

void machine_free(struct machine *m)
{
	memory_destroy(&m->vm.memory);
	free(m->vm.irqchip);
	free(m);
}

unsigned machine_section(const struct state_writer *w, const char *name)
{
	unsigned i = 0;

	while (strcmp(w->sections[i].name, name) != 0)
		assert_true(++i < w->count);
	return i;
}
