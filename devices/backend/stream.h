/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a character device: bytes from and to stdio, a file or a
 * pseudo-terminal. It never blocks and never slows the guest: output that the host does not
 * take waits in a bounded ring, and when that is full the newest bytes are dropped, counted and
 * said once. Every function is called with the VM lock held, or before the machine runs.
 *
 * Inherited descriptors are shared with whoever started us, so O_NONBLOCK is never set on them:
 * pipes and terminals are opened once more through /proc/self/fd; where that is refused (a
 * socket, another user's terminal), each access is preceded by poll(2) and is so short that it
 * cannot block. Regular files keep their shared offset and are accessed directly.
 */
#ifndef VIRGA_DEVICES_BACKEND_STREAM_H
#define VIRGA_DEVICES_BACKEND_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/vm.h"

#define STREAM_RING_SIZE  65536u
#define STREAM_INPUT_SIZE 256u
#define STREAM_FLUSH_MS   1000 /* how long stream_close() waits for a reader that stands still */

struct stream_end {
	int fd;        /* owned; -1 for none or no longer usable */
	bool nonblock; /* its open file description is ours and O_NONBLOCK */
	size_t chunk;  /* bytes that one access may ask for after poll said yes */
	struct loop_watch *watch;
};

struct stream {
	struct vm *vm;
	const char *name;              /* log prefix; outlives the stream */
	void (*arrived)(void *opaque); /* stream_read() may have bytes now */
	void *opaque;
	struct stream_end in;
	struct stream_end out;
	int peer_fd;   /* pty: its other end, held open so that it never hangs up; else -1 */
	bool keys;     /* input is a terminal: read at once and look for the escape key */
	bool escaped;  /* the escape key was the last one */
	bool readable; /* the input may have bytes; cleared when it says it has none */
	uint8_t input[STREAM_INPUT_SIZE];
	size_t input_len;
	uint8_t *ring; /* STREAM_RING_SIZE bytes, made when output first has to wait */
	size_t ring_pos;
	size_t ring_len;
	uint64_t dropped; /* bytes of output that found no room */
};

/*
 * Opens what spec names: "stdio", "none" (or NULL), "pty" (its path is printed on stderr),
 * "file:PATH" (output only; created with mode 0644 or cut to length 0, then appended to, so that
 * machines that share one do not overwrite each other). Adds a watch to vm->loop only where
 * input can arrive unasked: from a terminal, pipe or socket. 0 or -errno with a sentence.
 *
 * From a terminal, Ctrl-A x ends the machine (VM_END_QUIT) and Ctrl-A Ctrl-A is one Ctrl-A; any
 * other key after Ctrl-A is passed on with it. End of input is silent and final.
 */
int stream_open(struct stream *s, struct vm *vm, const char *name, const char *spec,
		void (*arrived)(void *opaque), void *opaque);

/* Writes out what waits, as far as the host takes it within STREAM_FLUSH_MS; closes. */
void stream_close(struct stream *s);

/* Takes all len bytes: written now, kept in the ring, or dropped. */
void stream_write(struct stream *s, const void *data, size_t len);

/* Up to max bytes of input, without waiting; 0 when there are none now. */
size_t stream_read(struct stream *s, void *out, size_t max);

/*
 * The guest asks for input again and again: has stream_read() find what has come, at once. The loop
 * thread would tell, but a vCPU that never sleeps keeps it waiting for a CPU until the next tick.
 */
void stream_look(struct stream *s);

/* Gives back len bytes, the last that were read; the newest that find no room are lost. */
void stream_unread(struct stream *s, const void *data, size_t len);

#endif
