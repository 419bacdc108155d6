/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template in memory: two memfds that nobody can change any more (memfd_create(2),
 * F_SEAL_WRITE). `memory` is guest memory as a snapshot has it; `parts` holds the bytes of
 * `state` and `working-set`. Processes pass the descriptors to each other, and what happens to
 * the template's files does not matter then.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_SEALED_H
#define VIRGA_BOOT_SNAPSHOT_SEALED_H

#include "boot/snapshot/snapshot.h"

/* Zero is a descriptor: unused ones are -1. */
struct sealed {
	int memory_fd; /* owned */
	int parts_fd;  /* owned */
};

/*
 * Copies an opened snapshot, whose memory was not taken yet, and verifies the digest of what was
 * copied. 0, -EBADMSG when it differs, or -errno; with a sentence. Reads all of `memory`.
 */
int sealed_make(struct sealed *sealed, const struct snapshot *s);

/* Seals a memory file that was written by snapshot_save(), and the parts that belong to it. */
int sealed_adopt(struct sealed *sealed, int memory_fd, const struct blob *state,
		 const struct working_set *ws);

/*
 * Opens it as a snapshot: checked as any, `memory` apart. memory_fd of sealed goes over to s, also
 * on failure. name is for sentences. Works confined. 0 or -errno with a sentence.
 */
int sealed_open(struct sealed *sealed, const char *name, struct snapshot *s);

void sealed_close(struct sealed *sealed);

#endif
