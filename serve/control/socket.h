/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: accepts clients and moves their bytes to and from a QMP session
 * each (serve/control/qmp.h). No client, slow, silent or many, holds up the loop or another.
 */
#ifndef VIRGA_SERVE_CONTROL_SOCKET_H
#define VIRGA_SERVE_CONTROL_SOCKET_H

#include <stdint.h>

#include "arch/base/listener.h"
#include "arch/base/loop.h"
#include "serve/control/qmp.h"

#define SOCKET_CLIENTS_MAX 64 /* one more is told so and closed */

struct socket_client;

struct control_socket {
	struct loop *loop;
	const struct view *view;
	int fd; /* listening, owned; -1 for none */
	struct listener_spare spare;
	struct loop_watch *watch;
	unsigned client_count;
	struct socket_client *clients;
};

/* Serves the listening socket fd; -1 for none. 0 or -errno with a sentence (fd closed). */
int socket_init(struct control_socket *c, struct loop *loop, int fd, const struct view *view);

/* For all clients; see qmp_event() and qmp_complete(). Not from within view.request(). */
void socket_event(struct control_socket *c, const char *name, const struct json_t *data);
void socket_complete(struct control_socket *c, uint64_t ticket, int error);

/* Ends every wait with an error: the machine is gone. */
void socket_complete_all(struct control_socket *c, int error);

/* Sends what clients take without waiting, and closes all. */
void socket_fini(struct control_socket *c);

#endif
