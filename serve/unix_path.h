/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix stream sockets by path, as the supervisor and the command-line client use
 * them (unix(7)): listening ones that replace what a dead program left, and
 * removal of exactly the file that was ours.
 */
#ifndef VIRGA_SERVE_UNIX_PATH_H
#define VIRGA_SERVE_UNIX_PATH_H

#include <stdbool.h>
#include <sys/types.h>

/* Which file a path led to when it was ours. */
struct unix_path {
	const char *path; /* borrowed; NULL for none */
	dev_t device;
	ino_t inode;
};

/*
 * A connected, close-on-exec socket, without waiting: -EAGAIN when the listener's queue is full.
 * -ENAMETOOLONG, -ENOENT, -ECONNREFUSED ...; no sentence.
 */
int unix_path_connect(const char *path, bool nonblock);

/* A non-blocking listening socket of mode 0600. -errno with a sentence (serve/supervisor.h). */
int unix_path_listen(const char *path);

/* Remembers the socket that path names now; one that is not there, or no socket, is forgotten. */
void unix_path_note(struct unix_path *u, const char *path);

/* Removes the remembered socket, unless another file has taken its place. */
void unix_path_remove(struct unix_path *u);

#endif
