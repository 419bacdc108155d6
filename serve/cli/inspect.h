/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `virga inspect` says of a snapshot or a template: a table that people can read, or one JSON
 * object with the same facts.
 */
#ifndef VIRGA_SERVE_CLI_INSPECT_H
#define VIRGA_SERVE_CLI_INSPECT_H

#include <stdbool.h>
#include <stdio.h>

#include "boot/snapshot/snapshot.h"

/*
 * Prints an opened snapshot to out, which is left open and whose errors are for the caller to see.
 * Nothing that a terminal obeys is printed, whoever made the snapshot. 0 or -errno with a sentence.
 */
int snapshot_inspect(struct snapshot *s, const struct template_facts *template, bool json,
		     FILE *out);

#endif
