/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix stream sockets by path (unix(7)), as the control socket, its client and the
 * vsock socket use them. A socket file that nobody listens on is a left-over and may be
 * replaced or removed; one that somebody listens on never is.
 */
#ifndef VIRGA_ARCH_BASE_UNIX_PATH_H
#define VIRGA_ARCH_BASE_UNIX_PATH_H

#include <stdbool.h>

#define UNIX_PATH_LISTEN_MAX 100u /* sun_path holds 108 bytes; a clone's number is appended */

/*
 * A connected, close-on-exec socket, without waiting: -EAGAIN when the listener's queue is full.
 * -ENAMETOOLONG, -ENOENT, -ECONNREFUSED ...; no sentence.
 */
int unix_path_connect(const char *path, bool nonblock);

/*
 * A non-blocking listening socket of mode 0600, at a path of UNIX_PATH_LISTEN_MAX bytes; the file is there
 * only once it can be connected to. -errno with a sentence: -EADDRINUSE for a live socket, -EEXIST
 * for another kind of file.
 */
int unix_path_listen(const char *path);

/* Removes a socket file that nobody listens on any more; anything else stays. NULL is ignored. */
void unix_path_remove_dead(const char *path);

#endif
