/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a long command is, on stderr, for people only: nothing is said when stderr is
 * no terminal.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PROGRESS_H
#define VIRGA_SERVE_TEMPLATE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *name; /* of the thing that is worked on; borrowed */
	bool talk;        /* somebody sits at stderr */
	uint64_t start_us;
	uint64_t wait_us; /* from start_us until progress_bytes() has something to say */
};

void progress_init(struct progress *p, const char *name);

/* Says what is done now, with the time so far. */
void progress_say(const struct progress *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Says how many bytes are done, after 1, 2, 4, 8 ... seconds, however often it is called. total 0:
 * nobody knows.
 */
void progress_bytes(struct progress *p, const char *verb, uint64_t done, uint64_t total);

#endif
