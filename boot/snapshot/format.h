/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sections of `state` that belong to the snapshot itself; those of vCPUs and
 * devices belong to their owners. docs/snapshot.md describes them, the golden file
 * holds them still: changing a list or a struct means raising its version.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_FORMAT_H
#define VIRGA_BOOT_SNAPSHOT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/base/digest.h"
#include "arch/base/field.h"
#include "boot/snapshot/snapshot.h"
#include "boot/snapshot/state.h"
#include "devices/device.h"

/* Places and meanings marked (snapshot) in arch/x86_64/layout.h. */
#define SNAPSHOT_MACHINE_X86_64_V1 1u

#define SNAPSHOT_MACHINE_VERSION   1u /* of section "machine" */
#define SNAPSHOT_MEMORY_VERSION    1u /* of section "memory" */
#define SNAPSHOT_CONFIG_VERSION    1u /* of section "config" */
#define SNAPSHOT_DEVICES_VERSION   2u /* of section "devices" */
#define SNAPSHOT_DEVICES_OLDEST    1u
#define SNAPSHOT_VCPU_VERSION      2u /* of section "vcpu"; 1 has fewer MSRs */

/* Section "machine". */
struct snapshot_machine {
	uint64_t memory_size; /* bytes of RAM */
	uint32_t vcpu_count;
	uint32_t virtio_slots;
	uint32_t machine_version;
	uint64_t clock_ns;       /* kvmclock */
	uint8_t host_kernel[64]; /* release it was made on, NUL-padded */
};

/* Section "memory": this, then extent_count extents, ascending by gpa. */
struct snapshot_memory {
	uint64_t file_len; /* of `memory` */
	uint8_t digest[DIGEST_LEN];
	uint32_t extent_count;
};

/* A run of guest memory and where its bytes are. */
struct snapshot_extent {
	uint64_t gpa;
	uint64_t len;
	uint64_t offset; /* in the file */
	uint32_t file;   /* 0: `memory`; others are for layers, none yet */
	uint32_t flags;  /* none yet */
};

/* Section "devices": how many (u32), then each. Which it has, in the order of their places. */
#define SNAPSHOT_DEVICES "devices"
struct snapshot_device {
	uint8_t type[STATE_NAME_MAX]; /* its word, NUL-padded; its section is of that name ... */
	uint8_t name[DEVICE_NAME_MAX];
	uint32_t instance;     /* ... and this instance */
	uint32_t settings_len; /* bytes behind this, a JSON object of its options; 0: none */
};

extern const struct field snapshot_machine_fields[];
extern const struct field snapshot_memory_fields[];
extern const struct field snapshot_extent_fields[];
extern const struct field snapshot_config_fields[];
extern const struct field snapshot_devices_fields[]; /* of a uint32_t */
extern const struct field snapshot_device_fields[];

/* A section that is no device's: the versions that are read, of which the last is written. */
struct snapshot_own {
	const char *name;
	uint32_t oldest;
	uint32_t version;
};

/* NULL: there is none of that name, so it is a device's. */
const struct snapshot_own *snapshot_own(const char *name);

/* Appends the list of the devices. */
void snapshot_save_devices(const struct devices *devices, struct blob *out);

/* The words for make DEVICES="..." that give the devices of this snapshot; fills and returns words. */
const char *snapshot_device_words(const struct snapshot *s, char *words, size_t size);

/* Fails with the sentence for a device that device_class_find() has just not found. */
int snapshot_lacks_class(const struct snapshot *s, const char *word, uint32_t instance);

/* Whether a section's version is one of those that are read. -EINVAL with a sentence. */
int snapshot_check_version(const char *path, const struct state_section *section, uint32_t oldest,
			   uint32_t version);

/*
 * The section `name` 0 of the snapshot's own, read through `list` into *object, which may be followed
 * by more in *rest (NULL: nothing may follow). -EINVAL with a sentence when it is missing, of a version
 * that is not read or of another length.
 */
int snapshot_section(const struct state_file *state, const char *path, const char *name,
		     const struct field *list, void *object, struct blob *rest);

#endif
