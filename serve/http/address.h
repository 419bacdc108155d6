/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the function host listens and its clients connect: ADDR:PORT on the loopback interface,
 * or unix:PATH.
 */
#ifndef VIRGA_SERVE_HTTP_ADDRESS_H
#define VIRGA_SERVE_HTTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#define ADDRESS_DEFAULT  "localhost:9001"
#define ADDRESS_TEXT_MAX 128u

/*
 * A non-blocking listening socket; a unix one of mode 0600. shown gets the address that clients use,
 * with the port that was given for port 0. Any address but a loopback one is -EPERM. fd or -errno with
 * a sentence.
 */
int address_listen(const char *text, char shown[ADDRESS_TEXT_MAX]);

/* A connected, blocking socket. fd or -errno with a sentence. */
int address_connect(const char *text);

/* Whether it is localhost:PORT, which is 127.0.0.1 here and may be ::1 to a client. */
bool address_is_localhost(const char *text);

/* The path of a unix address, or NULL. */
const char *address_path(const char *text);

/*
 * The address at which a user's own host is found: $XDG_RUNTIME_DIR/virga.sock; of root, without that
 * variable, /run/virga.sock. 0 or -ENOENT without a sentence.
 */
int address_runtime(char text[ADDRESS_TEXT_MAX]);

#endif
