/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of vsock connections, in the hybrid style that Firecracker's users
 * know: a client connects to one unix socket, writes "CONNECT port\n" and reads
 * "OK hostport\n"; a connection that the guest begins arrives at PATH_port, opened by
 * the supervisor. Nothing here blocks: what a slow peer does not take waits in a
 * buffer of the size that the guest was told, and then the guest waits.
 */
#ifndef VIRGA_DEVICES_VSOCK_UNIX_H
#define VIRGA_DEVICES_VSOCK_UNIX_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/vm.h"
#include "devices/vsock/vsock.h"

#define VSOCK_UNIX_HANDSHAKES_MAX 32
#define VSOCK_UNIX_LINE_MAX       32 /* bytes of "CONNECT port\n" */

struct device;
struct vsock_unix;

/* The socket of one connection. */
struct vsock_unix_end {
	struct vsock_unix *owner;
	struct vsock_conn *conn;
	struct loop_watch *watch; /* NULL once the peer has hung up */
	uint32_t events;          /* what `watch` waits for */
	int fd;                   /* owned; valid while conn is set */
	bool hup;
	bool draining;       /* closed but for what is in the buffer */
	unsigned reads_left; /* until the loop has seen to others */
	uint8_t *buffer;     /* VSOCK_BUF_ALLOC bytes for the host; made when first needed */
	uint32_t first;
	uint32_t len;
};

/* A client that has not said where to. */
struct vsock_unix_handshake {
	struct vsock_unix *owner;
	struct loop_watch *watch; /* NULL: this entry is free */
	int fd;
	uint64_t order; /* the smallest is the oldest */
};

struct vsock_unix {
	struct vsock *vsock;
	struct loop *loop;
	int listen_fd; /* owned, -1 without a path */
	struct loop_watch *listen;
	bool accept_paused; /* no descriptors left: until one is closed */
	uint64_t accepted;
	struct vsock_unix_handshake handshakes[VSOCK_UNIX_HANDSHAKES_MAX];
	struct vsock_unix_end ends[VSOCK_CONNS_MAX];
};

/*
 * Listens at path (NULL: not at all) and watches it. 0 or -errno with a sentence. The file is
 * for the supervisor to remove; after a failure here it is gone.
 */
int vsock_unix_create(struct vsock_unix *u, struct vsock *v, struct vm *vm, const char *path);

/* Closes everything, saying nothing to the guest. */
void vsock_unix_destroy(struct vsock_unix *u);

/* Accepts the connection c that the guest asked for; fd is owned from here on. */
void vsock_unix_accept(struct vsock_unix *u, struct vsock_conn *c, int fd);

#endif
