/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: a directory of templates, each under its name. The one that is named, else
 * $XDG_DATA_HOME/virga, else ~/.local/share/virga. A name with a slash is a directory by itself and
 * not in the store.
 */
#ifndef VIRGA_SERVE_TEMPLATE_STORE_H
#define VIRGA_SERVE_TEMPLATE_STORE_H

#include <stdbool.h>

/*
 * The directory of a template by NAME|DIR. store: its path, NULL for the default. make: the store is
 * made when it is missing. *path is the caller's to free. 0 or -errno with a sentence.
 */
int template_store_path(const char *store, const char *name, bool make, char **path);

/* The store's own path, the caller's to free; make: as above. 0 or -errno with a sentence. */
int template_store_dir(const char *store, bool make, char **path);

/*
 * Calls visit for each template of the store, whole or damaged, by name, with its path, and for each
 * left-over (NAME.tmp). What else is there (lost+found, files) is passed over, which is said once. The largest of what visit returned, 0 for a store that is not there, or -errno with a
 * sentence.
 */
int template_store_each(const char *store,
			int (*visit)(void *opaque, const char *name, const char *path),
			void *opaque);

/* Whether the entry path of a store, of that name, is a template, whole or damaged, or a left-over. */
bool template_store_holds(const char *name, const char *path);

/* Whether an entry's name is of something unfinished. */
bool template_store_is_tmp(const char *name);

#endif
