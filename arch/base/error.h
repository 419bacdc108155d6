/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How failures are said. A function that fails stores one sentence and returns
 * -errno; the caller passes the number up; whoever ends the command (vmm.c) or
 * answers a client (QMP) prints the sentence once.
 */
#ifndef VIRGA_ARCH_BASE_ERROR_H
#define VIRGA_ARCH_BASE_ERROR_H

#include <stddef.h>
#include <stdint.h>

/*
 * Stores a sentence that names the thing and the fix. Returns -err (err > 0). Any thread.
 */
int failf(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

/*
 * What a failed write(2) or ftruncate(2) is called: strerror(err), and for EFBIG the limit that was
 * met. Never NULL. Any thread.
 */
const char *write_error(int err);

/* The calling thread's last sentence, without newline; "" when there is none. Never NULL. */
const char *error_text(void);

/*
 * Prints "virga: ..." and a newline on stderr in one write. Never blocks on a full pipe. What a
 * terminal might obey, newlines included, is shown as \xNN: a sentence may quote a guest.
 */
void notef(const char *fmt, ...) __attribute__((format(printf, 1, 2), cold));

/* At most `burst` lines for each source that owns one of these; the last says so. */
struct note_limit {
	unsigned said;
};

/* notef() unless the source has said NOTE_BURST lines already. */
#define NOTE_BURST 10
void note_limited(struct note_limit *limit, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* What a source of text has printed: NOTE_RATE lines a second, after as many at once. Zeroed first. */
struct note_rate {
	uint64_t paid_us; /* when all lines so far will have had their time */
	uint64_t dropped;
};

/*
 * Prints text of a source that is not trusted, each line as notef("WHO: LINE") does, a long one in
 * pieces. Lines over the rate are dropped; the first of them is said, note_rate_end() says how many.
 */
#define NOTE_RATE 100
void note_text(struct note_rate *rate, uint64_t now_us, const char *who, const void *text,
	       size_t len);
void note_rate_end(const struct note_rate *rate, const char *who);

/*
 * Text of somebody else's on its way to a terminal or into JSON, which is UTF-8: every byte that is
 * no visible ASCII character and no blank becomes a '?'.
 */
void text_clean(char *text);

/*
 * How people call a signal that ends a program: SIGTERM, SIGINT, SIGHUP; NULL for another. Any thread.
 */
const char *signal_name(int signal);

#endif
