/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field lists of the snapshot's own sections (boot/snapshot/format.h).
 */
#include "boot/snapshot/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"

const struct field snapshot_machine_fields[] = {
	FIELD(struct snapshot_machine, memory_size),
	FIELD(struct snapshot_machine, vcpu_count),
	FIELD(struct snapshot_machine, virtio_slots),
	FIELD(struct snapshot_machine, machine_version),
	FIELD(struct snapshot_machine, clock_ns),
	FIELD_ARRAY(struct snapshot_machine, host_kernel),
	FIELD_END,
};

const struct field snapshot_memory_fields[] = {
	FIELD(struct snapshot_memory, file_len),
	FIELD_ARRAY(struct snapshot_memory, digest),
	FIELD(struct snapshot_memory, extent_count),
	FIELD_END,
};

const struct field snapshot_extent_fields[] = {
	FIELD(struct snapshot_extent, gpa),    FIELD(struct snapshot_extent, len),
	FIELD(struct snapshot_extent, offset), FIELD(struct snapshot_extent, file),
	FIELD(struct snapshot_extent, flags),  FIELD_END,
};

const struct field snapshot_config_fields[] = {
	FIELD(struct snapshot_config, len),
	FIELD(struct snapshot_config, checksum),
	FIELD_END,
};

const struct field snapshot_devices_fields[] = {
	{ .name = "count", .count = 1, .width = sizeof(uint32_t) },
	FIELD_END,
};

const struct field snapshot_device_fields[] = {
	FIELD_ARRAY(struct snapshot_device, type),
	FIELD_ARRAY(struct snapshot_device, name),
	FIELD(struct snapshot_device, instance),
	FIELD_SINCE(struct snapshot_device, settings_len, 2, 0),
	FIELD_END,
};

static const struct snapshot_own snapshot_owns[] = {
	{ "machine", SNAPSHOT_MACHINE_VERSION, SNAPSHOT_MACHINE_VERSION },
	{ "memory", SNAPSHOT_MEMORY_VERSION, SNAPSHOT_MEMORY_VERSION },
	{ "config", SNAPSHOT_CONFIG_VERSION, SNAPSHOT_CONFIG_VERSION },
	{ SNAPSHOT_DEVICES, SNAPSHOT_DEVICES_OLDEST, SNAPSHOT_DEVICES_VERSION },
	{ "vcpu", 1, SNAPSHOT_VCPU_VERSION },
	{ IRQCHIP_SECTION, IRQCHIP_OLDEST, IRQCHIP_VERSION },
};

const struct snapshot_own *snapshot_own(const char *name)
{
	for (size_t i = 0; i < sizeof(snapshot_owns) / sizeof(snapshot_owns[0]); i++)
		if (strcmp(snapshot_owns[i].name, name) == 0)
			return &snapshot_owns[i];
	return NULL;
}

int snapshot_check_version(const char *path, const struct state_section *section, uint32_t oldest,
			   uint32_t version)
{
	char range[32];

	if (section->version >= oldest && section->version <= version)
		return 0;
	if (oldest < version)
		snprintf(range, sizeof(range), "s %u to %u", oldest, version);
	else
		snprintf(range, sizeof(range), " %u", version);
	return failf(EINVAL,
		     "%s: section %s has version %u; this virga reads version%s; use the virga "
		     "that made it",
		     path, section->name, section->version, range);
}

int snapshot_section(const struct state_file *state, const char *path, const char *name,
		     const struct field *list, void *object, struct blob *rest)
{
	const struct state_section *section = state_find(state, name, 0);
	const struct snapshot_own *own = snapshot_own(name);
	struct blob in;
	int ret;

	if (!section)
		return failf(EINVAL, "%s: its state has no section %s", path, name);
	ret = snapshot_check_version(path, section, own->oldest, own->version);
	if (ret < 0)
		return ret;
	in = blob_reader(section->data, section->len);
	fields_load(list, section->version, object, &in);
	if (in.failed || (!rest && in.pos != in.len))
		return failf(EINVAL, "%s: section %s has %zu bytes, expected %zu", path, name,
			     section->len, fields_size(list, section->version));
	if (rest)
		*rest = in;
	return 0;
}
