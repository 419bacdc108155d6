/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot directory: `config` (text), `state` (boot/snapshot/state.h), `memory` (raw,
 * page-aligned, sparse), perhaps `working-set` (boot/pages/working_set.h) and `template`
 * (boot/snapshot/facts.h). boot/snapshot/dir.h is about the directory; snapshot_save and
 * snapshot_load are what the VM process does with the machine. Load is two-phase:
 * everything is checked before anything of the machine changes.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_SNAPSHOT_H
#define VIRGA_BOOT_SNAPSHOT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/pages/working_set.h"
#include "boot/snapshot/facts.h"
#include "boot/snapshot/state.h"
#include "devices/device.h"

#define SNAPSHOT_CONFIG_MAX  (1u << 20) /* bytes of `config` */
#define SNAPSHOT_VERSION_LEN 12u        /* digits of a version id */

/* How `state` knows the `config` that belongs to it; it is section "config". */
struct snapshot_config {
	uint64_t len;      /* of `config` */
	uint64_t checksum; /* XXH3-64 of `config` */
};

struct snapshot_config snapshot_config_of(const char *text, size_t len);

/*
 * Writes the paused machine: memory first, then state, through descriptors opened by the caller.
 * config is of what was written to `config`. VM lock held.
 */
int snapshot_save(struct vm *vm, struct devices *devices, const struct snapshot_config *config,
		  int state_fd, int memory_fd);

/* An opened snapshot: checked, nothing of it used yet. */
struct snapshot {
	char *path;         /* owned */
	struct blob config; /* owned text, NUL-terminated beyond len */
	struct blob raw;    /* owned bytes of `state` */
	struct state_file state;
	int memory_fd;        /* owned until snapshot_take_memory */
	uint64_t memory_size; /* bytes of RAM */
	unsigned vcpu_count;
	unsigned virtio_slots;
	uint8_t memory_digest[16];      /* XXH3-128 of `memory`'s content, from the state */
	struct working_set working_set; /* owned; empty when there is no such file */
};

/*
 * Opens DIR and checks that its files are whole and belong together (sizes, checksums,
 * config's checksum, memory's size). Does not read `memory`. While DIR is replaced it is the old
 * one or the new one. -errno with a sentence.
 */
int snapshot_open(struct snapshot *s, const char *path);

/* The same, and what `template` says, which is not read at a start. */
int snapshot_open_template(struct snapshot *s, struct template_facts *facts, const char *path);
void snapshot_close(struct snapshot *s);

/*
 * The same of one that is in memory, without `config`: the bytes of `state` (moved into s, on failure
 * too), of `working-set` (none: no data), and memory_fd, owned from here on. name is for sentences.
 */
int snapshot_adopt(struct snapshot *s, const char *name, struct blob *state,
		   const struct blob *working_set, int memory_fd);

/* The checksum at the end of `state`, which `working-set` names the snapshot by. */
uint64_t snapshot_state_checksum(const struct snapshot *s);

/*
 * The version id of a template: the first hexadecimal digits of that checksum. Another build has
 * another, a copy has the same.
 */
void snapshot_version(const struct snapshot *s, char id[SNAPSHOT_VERSION_LEN + 1]);

/* Maps the snapshot's memory copy-on-write. */
int snapshot_map_memory(struct snapshot *s, struct memory *memory);

/*
 * The devices that the machine of s has, in their order: the list is to be freed. -EINVAL with a
 * sentence that says which word of DEVICES this build lacks, or what is wrong.
 */
int snapshot_devices(const struct snapshot *s, struct device_list *list);

/*
 * Whether a start would make those devices and find a section for each, and none beside: all of it
 * that can be said without a machine. -EINVAL with a sentence, which is that of the start; -ENOMEM.
 */
int snapshot_check_devices(const struct snapshot *s);

/*
 * Loads vCPUs, interrupt controller, clock and devices into a machine made with
 * snapshot_map_memory()'s memory: checks every section against `devices` and the host first.
 * Skipped MSRs are said once.
 */
int snapshot_load(struct snapshot *s, struct vm *vm, struct devices *devices);

/*
 * The second phase alone, for a machine that was loaded from s before, is paused and has its
 * memory back: it is then as snapshot_load() left it, but for its time, which goes on.
 */
int snapshot_reload(struct snapshot *s, struct vm *vm, struct devices *devices);

/* Whether a guest of s would notice that its time goes on while it does not run. */
bool snapshot_keeps_time(const struct snapshot *s);

/*
 * Clock, TSCs and timers as s has them, for a machine that was loaded or reloaded from it and has
 * not run since: the time in between does not pass for the guest.
 */
int snapshot_load_time(struct snapshot *s, struct vm *vm);

/*
 * Checks the devices, reads `memory` and compares its digest. -EBADMSG with a sentence when that
 * differs. Before snapshot_map_memory().
 */
int snapshot_verify(struct snapshot *s);

#endif
