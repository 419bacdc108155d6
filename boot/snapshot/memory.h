/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory to and from the file `memory` of a snapshot: raw, offset for offset,
 * zero pages left as holes, with a digest that does not depend on holes.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_MEMORY_H
#define VIRGA_BOOT_SNAPSHOT_MEMORY_H

#include <stdint.h>

#include "arch/base/digest.h"
#include "arch/memory.h"

/*
 * Writes all RAM to fd, an empty file, and makes it m->size bytes long. Copy-on-write memory is
 * the pages of its base file with those that this process has written in their place. Opens
 * nothing. The machine is paused. 0 or -errno with a sentence; a full disk says how much was
 * wanted.
 */
int snapshot_memory_write(const struct memory *m, int fd, uint8_t digest[DIGEST_LEN]);

/* The digest of the first size bytes of such a file. name is for sentences. 0 or -errno. */
int snapshot_memory_digest(int fd, uint64_t size, const char *name, uint8_t digest[DIGEST_LEN]);

/*
 * Calls run for what is not zero in the first size bytes of such a file: whole pages, ascending, at most
 * some hundred KiB a call. It is the same for the same content, wherever the file has holes. 0, what a run
 * returned that is not 0, which ends it, or -errno with a sentence.
 */
int snapshot_memory_walk(int fd, uint64_t size, const char *name,
			 int (*run)(void *opaque, uint64_t offset, const void *data, size_t len),
			 void *opaque);

#endif
