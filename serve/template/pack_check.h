/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a tar archive is what `virga template export` writes, told while it streams
 * past, before tar sees it: GNU format (tar's manual, "Basic Tar Format"), the files of a snapshot
 * in the order of boot/snapshot/files.h, each once, each a regular file of at most its size. Nothing
 * of the contents is believed but the `state`, which says how large `memory` may be.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PACK_CHECK_H
#define VIRGA_SERVE_TEMPLATE_PACK_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"
#include "serve/template/pack_format.h"

enum pack_stage {
	PACK_HEADER, /* of a member, or the end */
	PACK_SPARSE, /* more of a header: where the holes are */
	PACK_DATA,
	PACK_END, /* zeros */
};

struct pack_check {
	const char *name; /* of the archive, for sentences; borrowed */
	enum pack_stage stage;
	uint8_t block[PACK_BLOCK]; /* header being collected */
	size_t have;
	unsigned next;       /* index of the first member that may come */
	bool in_state;       /* the data is that of `state` */
	uint64_t left;       /* bytes of data to come */
	uint64_t pad;        /* then zeros up to a block */
	uint64_t sparse_max; /* blocks of PACK_SPARSE that may come */
	uint64_t end_len;    /* bytes of PACK_END */
	struct blob state;
	uint64_t memory_size;  /* by the state */
	uint64_t memory_total; /* bytes of data of `memory`; 0 before its header */
	uint64_t memory_done;
};

void pack_check_init(struct pack_check *c, const char *name);

/* The next bytes of the archive. -EINVAL with a sentence when they do not belong in one. */
int pack_check_feed(struct pack_check *c, const void *data, size_t len);

/* There are no more bytes. -EINVAL with a sentence when there should be. */
int pack_check_end(const struct pack_check *c);

void pack_check_fini(struct pack_check *c);

#endif
