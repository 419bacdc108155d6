/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list (boot/snapshot/files.h). The mark is its last: what is removed half-way still has it.
 */
#include "boot/snapshot/files.h"

#include "boot/pages/working_set.h"
#include "boot/snapshot/facts.h"
#include "boot/snapshot/snapshot.h"
#include "boot/snapshot/state.h"

const struct snapshot_file_kind snapshot_files[SNAPSHOT_FILES] = {
	[SNAPSHOT_CONFIG] = { "config", false, SNAPSHOT_CONFIG_MAX },
	[SNAPSHOT_STATE] = { "state", false, STATE_SIZE_MAX },
	[SNAPSHOT_WORKING_SET] = { "working-set", true, WORKING_SET_SIZE_MAX },
	[SNAPSHOT_TEMPLATE] = { "template", true, TEMPLATE_FACTS_SIZE_MAX },
	[SNAPSHOT_MEMORY] = { "memory", false, 0 },
	[SNAPSHOT_MARK] = { SNAPSHOT_UNFINISHED, true, 0 },
};
