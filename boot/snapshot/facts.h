/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `template` of a snapshot: what `virga template build` knows of how it was made.
 * For people and for those who choose between templates; no start reads it. Format:
 * docs/snapshot.md.
 */
#ifndef VIRGA_BOOT_SNAPSHOT_FACTS_H
#define VIRGA_BOOT_SNAPSHOT_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEMPLATE_FACTS_SIZE_MAX 4096u

/* Zeroed: nothing is known, the snapshot has no such file. */
struct template_facts {
	bool known;
	uint64_t built_s;        /* when: seconds since 1970, UTC */
	uint64_t build_us;       /* how long all of it took */
	uint64_t ready_us;       /* from the start of the machine to its READY */
	uint64_t warm_requests;  /* answered before the snapshot */
	uint64_t tried_requests; /* different ones that trial clones answered */
};

/*
 * Reads the bytes of a file. name is for sentences, state_checksum that of the snapshot which it
 * must belong to. 0 or -EINVAL with a sentence.
 */
int template_facts_parse(struct template_facts *facts, const char *name, const void *data,
			 size_t len, uint64_t state_checksum);

/* The text of a file, to be freed; NULL with a sentence when memory ran out. */
char *template_facts_print(const struct template_facts *facts, uint64_t state_checksum);

#endif
