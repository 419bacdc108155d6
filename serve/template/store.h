/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: a directory of templates, each under its name. `--store DIR`, else
 * $XDG_DATA_HOME/virga, else ~/.local/share/virga. An argument with a slash is a directory
 * by itself and not in the store.
 */
#ifndef VIRGA_SERVE_TEMPLATE_STORE_H
#define VIRGA_SERVE_TEMPLATE_STORE_H

#include "serve/cli/options.h"

/*
 * The directory of a template by NAME|DIR. make: the store is made when it is missing. *path is the
 * caller's to free. 0 or -errno with a sentence.
 */
int template_store_path(const struct options *options, const char *name, bool make, char **path);

/* The store's own path, the caller's to free; make: as above. 0 or -errno with a sentence. */
int template_store_dir(const struct options *options, bool make, char **path);

/* The verbs list, check and rm: the exit status, every sentence printed. */
int template_list_command(const struct options *options);
int template_check_command(const struct options *options);
int template_rm_command(const struct options *options);

#endif
