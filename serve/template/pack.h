/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template's directory to and from one file. This process writes the archive itself and zstd
 * compresses it; zstd and tar read one, with this process between them, where everything is checked
 * (serve/template/pack_check.h) and counted. When this process dies, its neighbours see the end of their
 * pipe and end too.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PACK_H
#define VIRGA_SERVE_TEMPLATE_PACK_H

#include "serve/template/progress.h"

/*
 * Writes the files of the directory behind dir_fd to out_fd. The same files give the same bytes.
 * name is that of the archive, for sentences. 0 or -errno with a sentence.
 */
int pack_write(int dir_fd, int out_fd, const char *name, struct progress *progress);

/*
 * Reads an archive from in_fd and extracts it into the empty directory behind dir_fd, whose lock
 * tar holds too. Nothing that is not a file of a template is ever made, but what is in the files
 * is not checked. 0 or -errno with a sentence; then some files may be there.
 */
int pack_read(int in_fd, int dir_fd, const char *name, struct progress *progress);

#endif
