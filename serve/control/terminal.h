/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal that a guest's serial port uses: raw while the machine runs, as it
 * was found afterwards. Owned by the supervisor, which outlives the VM process.
 */
#ifndef VIRGA_SERVE_CONTROL_TERMINAL_H
#define VIRGA_SERVE_CONTROL_TERMINAL_H

#include <stdbool.h>
#include <termios.h>

struct terminal {
	bool raw; /* `saved` is to be put back */
	struct termios saved;
};

/*
 * When stdin is a terminal and we are in its foreground: no echo, no line editing, no signal
 * keys. Output stays as it is, so that our own lines end where a line ends. Said again, it makes
 * raw what a shell has changed meanwhile; what is put back stays what the first one found.
 */
void terminal_raw(struct terminal *t);

/* Puts back what terminal_raw() found; safe to call twice and on a zeroed struct. */
void terminal_restore(struct terminal *t);

#endif
