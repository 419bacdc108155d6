/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the archive of a template: by this process, since what tar takes for a hole is what the file
 * system says, which a start may change (docs/snapshot.md), and not what is in the file.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PACK_TAR_H
#define VIRGA_SERVE_TEMPLATE_PACK_TAR_H

#include "serve/template/progress.h"

/*
 * Writes the files of the template behind dir_fd to fd, in the form that serve/template/pack_check.h
 * accepts. The same content gives the same bytes. name is that of the archive, for messages. 0, -EPIPE
 * without a sentence when nobody reads it, or -errno with one.
 */
int pack_tar_write(int dir_fd, int fd, const char *name, struct progress *progress);

#endif
