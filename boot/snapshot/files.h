/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that a snapshot's directory holds, once: what opens, makes, removes, exports and imports
 * them goes by this list.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_FILES_H
#define VIRGA_BOOT_SNAPSHOT_FILES_H

#include <stdbool.h>
#include <stdint.h>

/* In the order in which an archive has them (docs/snapshot.md). */
enum snapshot_file {
	SNAPSHOT_CONFIG,
	SNAPSHOT_STATE,
	SNAPSHOT_WORKING_SET,
	SNAPSHOT_TEMPLATE,
	SNAPSHOT_MEMORY,
	SNAPSHOT_PARTS, /* so many a snapshot can have */
	SNAPSHOT_MARK = SNAPSHOT_PARTS,
	SNAPSHOT_FILES, /* so many can be in its directory */
};

/* Its presence says that the directory can go, though it may look complete. */
#define SNAPSHOT_UNFINISHED "unfinished"

struct snapshot_file_kind {
	const char *name;
	bool optional;
	uint64_t max; /* bytes of one that is read whole; 0: it is not, the state says its length */
};

extern const struct snapshot_file_kind snapshot_files[SNAPSHOT_FILES];

#endif
