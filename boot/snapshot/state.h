/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `state` of a snapshot: header, section table, sections, checksums.
 * It knows nothing of what a section means. Format: docs/snapshot.md. Every byte
 * is covered by a checksum; every offset and length is checked against the file.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_STATE_H
#define VIRGA_BOOT_SNAPSHOT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"

#define STATE_MAGIC        0x0a54534152495676ull /* on disk: never change */
#define STATE_VERSION      1u
#define STATE_ARCH_X86_64  62u /* ELF e_machine */
#define STATE_SECTIONS_MAX 64u
#define STATE_NAME_MAX     24u /* bytes with the final NUL */
#define STATE_SIZE_MAX     (64u << 20)

struct state_section {
	char name[STATE_NAME_MAX];
	uint32_t instance;
	uint32_t version;
	const uint8_t *data; /* borrowed: from the file, or from the blob while writing */
	size_t len;
};

/* --- Writing --- */

struct state_writer {
	unsigned count;
	struct state_section sections[STATE_SECTIONS_MAX];
	struct blob blobs[STATE_SECTIONS_MAX]; /* owned */
};

/* Starts a section; fill the returned blob. NULL when the table is full or a name is too long. */
struct blob *state_section_add(struct state_writer *w, const char *name, uint32_t instance,
			       uint32_t version);

/* The whole file as one blob. -ENOMEM or -EINVAL (a latched blob) with a sentence. */
int state_encode(const struct state_writer *w, struct blob *out);
void state_writer_fini(struct state_writer *w);

/* --- Reading --- */

struct state_file {
	const uint8_t *data; /* borrowed by state_parse */
	size_t len;
	unsigned count;
	struct state_section sections[STATE_SECTIONS_MAX];
};

/*
 * Checks magic, version, architecture, page size, lengths and checksums. `name` is for sentences.
 * data must outlive *file. -EINVAL with a sentence that names the first thing that is wrong.
 */
int state_parse(struct state_file *file, const char *name, const void *data, size_t len);

/* The section, or NULL. */
const struct state_section *state_find(const struct state_file *file, const char *name,
				       uint32_t instance);

#endif
