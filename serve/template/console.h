/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of what a guest has written to a serial port that goes nowhere: read from a pipe, kept for
 * the case that its machine fails, and dropped otherwise.
 */
#ifndef VIRGA_SERVE_TEMPLATE_CONSOLE_H
#define VIRGA_SERVE_TEMPLATE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_KEPT 4096u

struct console {
	int fd; /* owned; -1: there is nothing more to come */
	size_t len;
	char text[CONSOLE_KEPT]; /* the newest */
};

/* Makes the pipe; *write_fd is the caller's, to be closed. 0 or -errno with a sentence. */
int console_open(struct console *c, int *write_fd);

/* In the child whose serial port goes to stdio: write_fd becomes that, with no input. 0 or -errno, sentence. */
int console_take(int write_fd);

/* Takes what has come, a piece of it at most. False when there is none now. */
bool console_read(struct console *c);

/* Prints the last lines, once nobody writes any more, and closes the pipe. */
void console_say(struct console *c);
void console_close(struct console *c);

#endif
