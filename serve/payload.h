/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and answers in messages (serve/message.h): in the text, or in a memfd when
 * they are longer than that.
 */
#ifndef VIRGA_SERVE_PAYLOAD_H
#define VIRGA_SERVE_PAYLOAD_H

#include <stddef.h>

#include "serve/message.h"

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
