/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that is written as FILE.tmp, locked, and gets its name when it is whole; FILE is
 * never replaced.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PACK_FILE_H
#define VIRGA_SERVE_TEMPLATE_PACK_FILE_H

struct pack_file {
	char *path;     /* owned */
	char *tmp_path; /* owned */
	int fd;         /* of FILE.tmp, empty at first; -1 when closed */
};

/*
 * Makes FILE.tmp, readable by its owner only. An old one whose writer died is taken over. -EEXIST
 * with a sentence when FILE is there or FILE.tmp is something else, -EBUSY when its writer lives.
 */
int pack_file_create(struct pack_file *file, const char *path);

/* fsync, rename. Closes and frees in any case; FILE.tmp is removed when it fails. */
int pack_file_commit(struct pack_file *file);

/* Removes FILE.tmp, closes and frees. Safe after commit. */
void pack_file_abort(struct pack_file *file);

#endif
