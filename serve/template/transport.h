/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template as one file, for transport: a tar archive through zstd, both made and read by the
 * installed programs; the template itself stays raw and mappable. docs/decisions/transport.md says
 * why. Progress is told on standard error.
 */
#ifndef VIRGA_SERVE_TEMPLATE_TRANSPORT_H
#define VIRGA_SERVE_TEMPLATE_TRANSPORT_H

#include <stdbool.h>

/* Verifies the template in the directory path and writes it to fd; name is fd's, for sentences. */
int template_export(const char *path, int fd, const char *name);

/*
 * The same into a file that is made whole or not at all. *began: the file could be made, so that a
 * failure is the host's or the template's. 0 or -errno with a sentence.
 */
int template_export_file(const char *path, const char *name, bool *began);

/*
 * Makes the template path of the archive that fd reads, when all of it is right; one that is there is
 * replaced. *began as above. fd stays the caller's. 0 or -errno with a sentence.
 */
int template_import(int fd, const char *name, const char *path, bool *began);

#endif
