/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive in GNU format (tar's manual, "Basic Tar Format"), as far as a template needs it.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PACK_FORMAT_H
#define VIRGA_SERVE_TEMPLATE_PACK_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PACK_BLOCK       512u
#define PACK_RECORD      20u /* blocks that tar writes at once: an archive is a multiple of them */
#define PACK_MODE        "0000600"
#define PACK_MAGIC       "ustar  "
#define PACK_REGULAR     '0'
#define PACK_HOLES       'S'
#define PACK_HEADER_RUNS 4u   /* in a header */
#define PACK_SPARSE_RUNS 21u  /* in a block of PACK_SPARSE */
#define PACK_SPARSE_MORE 504u /* offset in it: another follows */

/* What is between two holes: offset and length. */
struct pack_run {
	char offset[12];
	char len[12];
};

/* A header, as it lies in the block. */
struct pack_header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[8];
	char owner[80];                         /* names, device numbers: no matter */
	char unused[41];                        /* of other formats and of incremental dumps */
	struct pack_run runs[PACK_HEADER_RUNS]; /* of a file with holes */
	char more;                              /* more of them follow in blocks of their own */
	char real_size[12];
	char rest[17];
};

_Static_assert(sizeof(struct pack_header) == PACK_BLOCK, "a header is a block");
_Static_assert(offsetof(struct pack_header, real_size) == 483, "GNU format");

/* Fills in the checksum, which is counted as blanks in itself. */
static inline void pack_header_seal(struct pack_header *h)
{
	unsigned sum = 0;
	uint8_t bytes[PACK_BLOCK];

	memset(h->checksum, ' ', sizeof(h->checksum));
	memcpy(bytes, h, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		sum += bytes[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
	h->checksum[7] = ' ';
}

#endif
