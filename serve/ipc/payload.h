/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and answers in messages (serve/ipc/message.h): in the text, or in a memfd when
 * they are longer than that.
 */
#ifndef VIRGA_SERVE_IPC_PAYLOAD_H
#define VIRGA_SERVE_IPC_PAYLOAD_H

#include <stddef.h>

#include "serve/ipc/message.h"

#define PAYLOAD_MAX (6u << 20) /* bytes; what the function channel takes */

/*
 * Adds len bytes of data to m: behind what its text has, or, where there is no room, in a memfd that
 * becomes its last descriptor. 0; 1 when it did the latter: the caller closes that one after sending;
 * -errno with a sentence.
 */
int payload_put(struct message *m, const void *data, size_t len);

/*
 * Where len bytes of a payload are: in m's text at offset, or, when fd is none of -1, in that memfd;
 * then they are read into *owned, the caller's to free. NULL with a sentence when they are not all
 * there or too many for a payload. Works confined.
 */
const void *payload_at(const struct message *m, size_t offset, size_t len, int fd, void **owned);

/*
 * Sends m, whose type, value and id are set, with len bytes of data over fd. Works confined. 0 or
 * -errno with a sentence.
 */
int payload_send(int fd, struct message *m, const void *data, size_t len);

/*
 * The bytes that came with a message; *data is owned by the caller. Works confined. 0, or -errno
 * with a sentence (more than a payload can have, out of memory, a memfd that cannot be read).
 */
int payload_take(const struct message *m, void **data, size_t *len);

#endif
