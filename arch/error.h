/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How failures are said. A function that fails stores one sentence and returns
 * -errno; the caller passes the number up; whoever ends the command (vmm.c) or
 * answers a client (QMP) prints the sentence once.
 */
#ifndef VIRGA_ARCH_ERROR_H
#define VIRGA_ARCH_ERROR_H

#include <stddef.h>

/* Stores a sentence that names the thing and the fix; returns -err (err > 0). Any thread. */
int failf(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The calling thread's last sentence, without newline; "" when there is none. Never NULL. */
const char *error_text(void);

/* Prints "virga: ..." and a newline on stderr in one write. Never blocks on a full pipe. */
void notef(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* At most `burst` lines for each source that owns one of these; the last says so. */
struct note_limit {
	unsigned said;
};

/* notef() unless the source has said NOTE_BURST lines already. */
#define NOTE_BURST 10
void note_limited(struct note_limit *limit, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
