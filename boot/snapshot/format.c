/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field lists of the snapshot's own sections (boot/snapshot/format.h).
 */
#include "boot/snapshot/format.h"

#include <errno.h>

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

int snapshot_section(const struct state_file *state, const char *path, const char *name,
		     uint32_t version, const struct field *list, void *object, struct blob *rest)
{
	const struct state_section *section = state_find(state, name, 0);
	struct blob in;

	if (!section)
		return failf(EINVAL, "%s: its state has no section %s", path, name);
	if (section->version != version)
		return failf(EINVAL, "%s: section %s has version %u; this virga reads version %u",
			     path, name, section->version, version);
	in = blob_reader(section->data, section->len);
	fields_load(list, object, &in);
	if (in.failed || (!rest && in.pos != in.len))
		return failf(EINVAL, "%s: section %s has %zu bytes, expected %zu", path, name,
			     section->len, fields_size(list));
	if (rest)
		*rest = in;
	return 0;
}
