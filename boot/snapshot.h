/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot directory: `config` (text), `state` (boot/state.h), `memory` (raw,
 * page-aligned, sparse) and perhaps `working-set` (boot/working_set.h). snapshot_dir_* is what the supervisor does with the directory;
 * snapshot_save and snapshot_load are what the VM process does with the machine.
 * Load is two-phase: everything is checked before anything of the machine changes.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_H
#define VIRGA_BOOT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/state.h"
#include "boot/working_set.h"
#include "devices/device.h"

/* --- The directory, written under DIR.tmp --- */

struct snapshot_dir {
	char *path;     /* final name, owned */
	char *tmp_path; /* PATH.tmp, owned */
	int dir_fd;     /* of PATH.tmp, holding its lock; -1 when closed */
	int state_fd;
	int memory_fd;
};

/* -EINVAL with a sentence when no snapshot may have that name: it is empty or ends in .tmp. */
int snapshot_dir_check_name(const char *path);

/*
 * Makes and locks PATH.tmp with empty `state` and `memory` in it and writes `config`. PATH must
 * not exist (-EEXIST). A PATH.tmp whose writer died is removed and said, unless it is complete
 * (-EEXIST); one whose writer lives is -EBUSY.
 */
int snapshot_dir_create(struct snapshot_dir *dir, const char *path, const char *config,
			size_t config_len);

/* Adds a file to PATH.tmp: `config`, or one that a snapshot may have. 0 or -errno, sentence. */
int snapshot_dir_add(const struct snapshot_dir *dir, const char *name, const void *data,
		     size_t len);

/*
 * Says by a file of its own that PATH.tmp is worth nothing, even when it looks complete;
 * snapshot_dir_commit() removes that file when PATH has its name. 0 or -errno with a sentence.
 */
int snapshot_dir_unfinished(const struct snapshot_dir *dir);

/*
 * fsyncs all and renames PATH.tmp to PATH, never replacing. On failure PATH.tmp is removed; only
 * when the very last step fails (the new name on disk) PATH is left, and whole. Closes and frees
 * in any case.
 */
int snapshot_dir_commit(struct snapshot_dir *dir);

/* Removes PATH.tmp, closes and frees. Safe after commit and on a zeroed (fd -1) struct. */
void snapshot_dir_abort(struct snapshot_dir *dir);

/* Removes a PATH.tmp whose writer died and says so. -EBUSY when it lives. */
int snapshot_dir_sweep(const char *path);

/*
 * Removes the snapshot PATH: it is renamed to PATH.tmp first, so that under its own name it is whole
 * or gone; there is no PATH.tmp yet (snapshot_dir_sweep()). Machines that run from it go on. Refuses a directory that holds anything else.
 */
int snapshot_dir_delete(const char *path);

/* --- The machine --- */

/*
 * Writes the paused machine: memory first, then state, through descriptors opened by the caller.
 * config is what was written to `config`, bound to the state by its checksum. VM lock held.
 */
int snapshot_save(struct vm *vm, struct devices *devices, const char *config, size_t config_len,
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
 * config's checksum, memory's size). Does not read `memory`. -errno with a sentence.
 */
int snapshot_open(struct snapshot *s, const char *path);
void snapshot_close(struct snapshot *s);

/*
 * The same of one that is in memory, without `config`: the bytes of `state` (moved into s, on failure
 * too), of `working-set` (none: no data), and memory_fd, owned from here on. name is for messages.
 */
int snapshot_adopt(struct snapshot *s, const char *name, struct blob *state,
		   const struct blob *working_set, int memory_fd);

/* The checksum at the end of `state`, which `working-set` names the snapshot by. */
uint64_t snapshot_state_checksum(const struct snapshot *s);

/* Maps the snapshot's memory copy-on-write. */
int snapshot_map_memory(struct snapshot *s, struct memory *memory);

/*
 * Loads vCPUs, interrupt controller, clock and devices into a machine made with
 * snapshot_map_memory()'s memory: checks every section against `devices` and the host first.
 * Skipped MSRs are said once.
 */
int snapshot_load(struct snapshot *s, struct vm *vm, struct devices *devices);

/*
 * The second phase alone, for a machine that was loaded from s before, is paused and has its
 * memory back: it is then as snapshot_load() left it. Only the time of a guest that keeps none goes on.
 */
int snapshot_reload(struct snapshot *s, struct vm *vm, struct devices *devices);

/*
 * Reads `memory` and compares its digest. -EBADMSG with a sentence when it differs. Before
 * snapshot_map_memory().
 */
int snapshot_verify(struct snapshot *s);

#endif
