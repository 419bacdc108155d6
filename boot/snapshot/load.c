/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sections of a snapshot into a machine (boot/snapshot/snapshot.h), in two phases: check
 * all, then change the machine. The order of the second is taught in snapshot_commit().
 */
#include "boot/snapshot/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"

/* --- Phase 1: nothing of the machine changes --- */

/* The version that the machine has for a section; false when it has no such section. */
static bool snapshot_expects(const struct state_section *section, const struct vm *vm,
			     struct devices *devices, uint32_t *version)
{
	const struct {
		const char *name;
		uint32_t version;
	} own[] = {
		{ "machine", SNAPSHOT_MACHINE_VERSION }, { "memory", SNAPSHOT_MEMORY_VERSION },
		{ "config", SNAPSHOT_CONFIG_VERSION },   { irqchip_section, irqchip_version },
		{ "vcpu", SNAPSHOT_VCPU_VERSION },
	};
	struct device *dev = devices_find(devices, section->name);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		bool vcpu = strcmp(own[i].name, "vcpu") == 0;

		*version = own[i].version;
		if (strcmp(section->name, own[i].name) == 0)
			return section->instance < (vcpu ? vm->vcpu_count : 1);
	}
	if (!dev || section->instance != 0)
		return false;
	*version = dev->class->version;
	return true;
}

/* The words for make DEVICES="..." that give the devices of this snapshot. */
static const char *snapshot_device_words(const struct snapshot *s, char *words, size_t size)
{
	static const char own[] = " machine memory config vcpu ioapic ";
	size_t len = 0;

	words[0] = '\0';
	for (unsigned i = 0; i < s->state.count && len < size; i++) {
		char word[STATE_NAME_MAX + 2];

		snprintf(word, sizeof(word), " %s ", s->state.sections[i].name);
		if (!strstr(own, word))
			len += (size_t)snprintf(words + len, size - len, "%s%s", len ? " " : "",
						s->state.sections[i].name);
	}
	return words;
}

/* Every section of the file is one that this machine has, in the version that it has. */
static int snapshot_check_known(const struct snapshot *s, const struct vm *vm,
				struct devices *devices)
{
	char words[256];

	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];
		uint32_t version;

		if (!snapshot_expects(section, vm, devices, &version))
			return failf(EINVAL,
				     "%s: has device %s (%u), this virga was built without it; "
				     "build with DEVICES=\"%s\"",
				     s->path, section->name, section->instance,
				     snapshot_device_words(s, words, sizeof(words)));
		if (section->version != version)
			return failf(EINVAL,
				     "%s: section %s has version %u; this virga reads version %u; "
				     "use the "
				     "virga that made it",
				     s->path, section->name, section->version, version);
	}
	return 0;
}

/* Every section that this machine needs is there, and long enough for what is in it. */
static int snapshot_check_complete(const struct snapshot *s, struct vm *vm, struct devices *devices)
{
	const struct state_section *irqchip = state_find(&s->state, irqchip_section, 0);
	char words[256];
	int ret;

	if (!irqchip)
		return failf(EINVAL, "%s: its state has no section %s", s->path, irqchip_section);
	ret = irqchip_check(vm->irqchip, s->path, irqchip->data, irqchip->len);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < devices->count; i++) {
		const struct device_class *class = devices->list[i].class;
		const struct state_section *section = state_find(&s->state, class->name, 0);

		if (!section)
			return failf(
				EINVAL,
				"%s: has no device %s, which this virga was built with; build with "
				"DEVICES=\"%s\"",
				s->path, class->name,
				snapshot_device_words(s, words, sizeof(words)));
		if (class->fields && section->len < fields_size(class->fields))
			return failf(EINVAL, "%s: section %s has %zu bytes, expected at least %zu",
				     s->path, class->name, section->len,
				     fields_size(class->fields));
	}
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		if (!section)
			return failf(EINVAL, "%s: its state has no section vcpu %u", s->path, i);
		ret = vcpu_check(&vm->vcpus[i], section->data, section->len);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int snapshot_check(const struct snapshot *s, struct vm *vm, struct devices *devices,
			  struct snapshot_machine *machine)
{
	int ret = snapshot_section(&s->state, s->path, "machine", SNAPSHOT_MACHINE_VERSION,
				   snapshot_machine_fields, machine, NULL);

	if (ret < 0)
		return ret;
	if (machine->memory_size != vm->memory.size || machine->vcpu_count != vm->vcpu_count)
		return failf(
			EINVAL,
			"%s: was a machine of %llu MiB and %u vCPUs; this one has %llu MiB and %u",
			s->path, (unsigned long long)(machine->memory_size >> 20),
			machine->vcpu_count, (unsigned long long)(vm->memory.size >> 20),
			vm->vcpu_count);
	ret = snapshot_check_known(s, vm, devices);
	if (ret < 0)
		return ret;
	if (machine->virtio_slots != vm->virtio_slots)
		return failf(EINVAL, "%s: was a machine with %u virtio slots; this one has %u",
			     s->path, machine->virtio_slots, vm->virtio_slots);
	return snapshot_check_complete(s, vm, devices);
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
	const struct state_section *irqchip = state_find(&s->state, irqchip_section, 0);
	unsigned skipped = 0;
	int ret = time ? vm_clock_set(vm, machine->clock_ns) : 0;

	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		ret = vcpu_load(&vm->vcpus[i], section->data, section->len, time, &skipped);
	}
	if (ret == 0)
		ret = irqchip_load(vm->irqchip, s->path, irqchip->data, irqchip->len);
	for (unsigned i = 0; ret == 0 && i < devices->count; i++) {
		struct device *dev = &devices->list[i];
		const struct state_section *section = state_find(&s->state, dev->class->name, 0);

		ret = device_load(dev, section->data, section->len);
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
	int ret = snapshot_section(&s->state, s->path, "machine", SNAPSHOT_MACHINE_VERSION,
				   snapshot_machine_fields, &machine, NULL);

	if (ret < 0)
		return ret;
	vm_forget(vm);
	devices_clear(devices);
	return snapshot_commit(s, vm, devices, &machine, false);
}

int snapshot_load_time(struct snapshot *s, struct vm *vm)
{
	struct snapshot_machine machine;
	int ret = snapshot_section(&s->state, s->path, "machine", SNAPSHOT_MACHINE_VERSION,
				   snapshot_machine_fields, &machine, NULL);

	if (ret == 0)
		ret = vm_clock_set(vm, machine.clock_ns);
	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);

		ret = vcpu_load_time(&vm->vcpus[i], section->data, section->len);
	}
	return ret;
}
