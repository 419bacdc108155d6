/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sections of a snapshot into a machine (boot/snapshot/snapshot.h), in two phases: check
 * all, then change the machine. The order of the second is taught in snapshot_commit().
 */
#include "boot/snapshot/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"

/* --- Phase 1: nothing of the machine changes --- */

/* A section is the machine's own, or of one of its devices, in a version that is read. */
static int snapshot_check_known(const struct snapshot *s, const struct state_section *section,
				struct devices *devices)
{
	const struct snapshot_own *own = snapshot_own(section->name);
	const unsigned count = strcmp(section->name, "vcpu") == 0 ? s->vcpu_count : 1;
	struct device *dev;

	if (own && section->instance >= count)
		return failf(EINVAL, "%s: has a section %s (%u), which this machine has not",
			     s->path, section->name, section->instance);
	if (own)
		return snapshot_check_version(s->path, section, own->oldest, own->version);
	dev = devices_find(devices, section->name, section->instance);
	if (!dev && device_class_find(section->name))
		return failf(EINVAL, "%s: has device %s (%u), which this machine has not", s->path,
			     section->name, section->instance);
	if (!dev)
		return snapshot_lacks_class(s, section->name, section->instance);
	return snapshot_check_version(s->path, section, dev->class->oldest, dev->class->version);
}

/* The device's section is there, behind that of the device before, and not too short. */
static int snapshot_check_device(const struct snapshot *s, const struct device *dev,
				 const struct state_section **last)
{
	const struct device_class *class = dev->class;
	const struct state_section *section = state_find(&s->state, class->name, dev->instance);
	size_t least;

	if (!section)
		return failf(EINVAL, "%s: has no device %s (%u), which this machine has", s->path,
			     class->name, dev->instance);
	if (*last && section < *last)
		return failf(EINVAL, "%s: has its devices in another order than this machine: %s",
			     s->path, class->name);
	*last = section;
	least = class->fields ? fields_size(class->fields, section->version) : 0;
	if (section->len < least)
		return failf(EINVAL, "%s: section %s has %zu bytes, expected at least %zu", s->path,
			     class->name, section->len, least);
	return 0;
}

/* No section is unknown, and none that is needed is missing. */
static int snapshot_check_sections(const struct snapshot *s, struct devices *devices)
{
	const struct state_section *last = NULL;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < s->state.count; i++)
		ret = snapshot_check_known(s, &s->state.sections[i], devices);
	if (ret == 0 && !state_find(&s->state, IRQCHIP_SECTION, 0))
		ret = failf(EINVAL, "%s: its state has no section " IRQCHIP_SECTION, s->path);
	for (unsigned i = 0; ret == 0 && i < s->vcpu_count; i++)
		if (!state_find(&s->state, "vcpu", i))
			ret = failf(EINVAL, "%s: its state has no section vcpu %u", s->path, i);
	for (unsigned i = 0; ret == 0 && i < devices->count; i++)
		ret = snapshot_check_device(s, &devices->list[i], &last);
	return ret;
}

/* What is of no device fits this host. */
static int snapshot_check_host(const struct snapshot *s, struct vm *vm)
{
	const struct state_section *irqchip = state_find(&s->state, IRQCHIP_SECTION, 0);
	int ret =
		irqchip_check(vm->irqchip, s->path, irqchip->version, irqchip->data, irqchip->len);

	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		ret = vcpu_check(&vm->vcpus[i], section->data, section->len);
	}
	return ret;
}

static int snapshot_check(const struct snapshot *s, struct vm *vm, struct devices *devices,
			  struct snapshot_machine *machine)
{
	int ret = snapshot_section(&s->state, s->path, "machine", snapshot_machine_fields, machine,
				   NULL);

	if (ret < 0)
		return ret;
	if (machine->memory_size != vm->memory.size || machine->vcpu_count != vm->vcpu_count)
		return failf(
			EINVAL,
			"%s: was a machine of %llu MiB and %u vCPUs; this one has %llu MiB and %u",
			s->path, (unsigned long long)(machine->memory_size >> 20),
			machine->vcpu_count, (unsigned long long)(vm->memory.size >> 20),
			vm->vcpu_count);
	ret = snapshot_check_sections(s, devices);
	if (ret < 0)
		return ret;
	if (machine->virtio_slots != vm->virtio_slots)
		return failf(EINVAL, "%s: was a machine with %u virtio slots; this one has %u",
			     s->path, machine->virtio_slots, vm->virtio_slots);
	return snapshot_check_host(s, vm);
}

int snapshot_check_devices(const struct snapshot *s)
{
	struct device_list list;
	struct devices devices = { 0 };
	int ret = snapshot_devices(s, &list);

	if (ret < 0)
		return ret;
	devices.list = calloc(list.count, sizeof(*devices.list));
	if (!devices.list && list.count)
		ret = failf(ENOMEM, "out of memory");
	for (; ret == 0 && devices.count < list.count; devices.count++) {
		const struct device_spec *spec = &list.list[devices.count];

		devices.list[devices.count] =
			(struct device){ .class = spec->class, .instance = spec->instance };
	}
	if (ret == 0)
		ret = snapshot_check_sections(s, &devices);
	free(devices.list);
	device_list_fini(&list);
	return ret;
}

/* --- Phase 2 --- */

/*
 * Restore order. Memory lies in its slots before any of this: it is mapped, not loaded.
 *  1. The clock: KVM writes the guest's kvmclock page from it as soon as a vCPU's MSRs say where
 *     that page is.
 *  2. The vCPUs with their local APICs; in which order their registers go is arch's to know
 *     (CPUID before MSRs, TSC before its deadline, MP state last).
 *  3. The interrupt controller: a level pin that is active sends its interrupt again, which needs local APICs.
 *  4. The devices: what they do in restore may raise interrupts.
 * The caller starts the devices and then the vCPUs; KVM_KVMCLOCK_CTRL is vm_resume's.
 */
static int snapshot_commit(const struct snapshot *s, struct vm *vm, struct devices *devices,
			   const struct snapshot_machine *machine, bool time)
{
	const struct state_section *irqchip = state_find(&s->state, IRQCHIP_SECTION, 0);
	unsigned skipped = 0;
	int ret = time ? vm_clock_set(vm, machine->clock_ns) : 0;

	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		ret = vcpu_load(&vm->vcpus[i], section->data, section->len, time, &skipped);
	}
	if (ret == 0)
		ret = irqchip_load(vm->irqchip, s->path, irqchip->version, irqchip->data,
				   irqchip->len);
	for (unsigned i = 0; ret == 0 && i < devices->count; i++) {
		struct device *dev = &devices->list[i];
		const struct state_section *section =
			state_find(&s->state, dev->class->name, dev->instance);

		ret = device_load(dev, section->version, section->data, section->len);
	}
	if (skipped && !vm->hosted)
		notef("%s: %u MSRs that this host does not take were skipped", s->path, skipped);
	return ret;
}

int snapshot_load(struct snapshot *s, struct vm *vm, struct devices *devices)
{
	struct snapshot_machine machine;
	int ret = snapshot_check(s, vm, devices, &machine);

	return ret < 0 ? ret : snapshot_commit(s, vm, devices, &machine, true);
}

bool snapshot_keeps_time(const struct snapshot *s)
{
	bool keeps = false;

	for (unsigned i = 0; !keeps && i < s->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		keeps = vcpu_keeps_time(section->data, section->len);
	}
	return keeps;
}

int snapshot_reload(struct snapshot *s, struct vm *vm, struct devices *devices)
{
	struct snapshot_machine machine;
	int ret = snapshot_section(&s->state, s->path, "machine", snapshot_machine_fields, &machine,
				   NULL);

	if (ret < 0)
		return ret;
	vm_forget(vm);
	devices_clear(devices);
	return snapshot_commit(s, vm, devices, &machine, false);
}

int snapshot_load_time(struct snapshot *s, struct vm *vm)
{
	struct snapshot_machine machine;
	int ret = snapshot_section(&s->state, s->path, "machine", snapshot_machine_fields, &machine,
				   NULL);

	if (ret == 0)
		ret = vm_clock_set(vm, machine.clock_ns);
	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		ret = vcpu_load_time(&vm->vcpus[i], section->data, section->len);
	}
	return ret;
}
