/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting connections where there may be too many: a client is turned away with a word rather than
 * left waiting, also when this process has no descriptor left. One thread.
 */
#ifndef VIRGA_ARCH_BASE_LISTENER_H
#define VIRGA_ARCH_BASE_LISTENER_H

#include <stddef.h>

/* A descriptor that is given up for a moment to turn a client away; for any number of sockets. */
struct listener_spare {
	int fd; /* owned; -1: none */
};

/* 0 or -errno with a sentence; then there is none, which listener_accept() puts up with. */
int listener_spare_init(struct listener_spare *spare);
void listener_spare_fini(struct listener_spare *spare);

/*
 * Accepts one who waits at the listening socket `fd`: a descriptor, CLOEXEC and not blocking, the
 * caller's. Or -errno without a sentence: -EAGAIN when nobody waits, -ECONNREFUSED when no descriptor
 * was left and one was turned away with `word`.
 */
int listener_accept(struct listener_spare *spare, int fd, const void *word, size_t len);

/* Says `word` to a client that was accepted, as far as it takes it now, and closes it. */
void listener_turn_away(int fd, const void *word, size_t len);

#endif
