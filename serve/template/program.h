/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An installed program (tar, zstd) at work for a command: started by name, without a
 * shell, with nothing of this process's environment but PATH.
 */
#ifndef VIRGA_SERVE_TEMPLATE_PROGRAM_H
#define VIRGA_SERVE_TEMPLATE_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

/* Zeroed: not started. */
struct program {
	const char *name;
	pid_t pid;
	int said_fd; /* what it writes to stderr */
};

/*
 * Starts argv[0]. in_fd and out_fd become its standard input and output, which wait (io_waiting()); where
 * they are -1, an empty file and what it says. They stay the caller's. dir_fd, unless it is -1, becomes its working directory and stays open in it, and so does a lock
 * that belongs to it. -errno with a sentence; -ENOENT says what to install.
 */
int program_start(struct program *p, const char *const argv[], int in_fd, int out_fd, int dir_fd);

/* 0 when it has written nothing to stderr so far, else -EIO with the first line of it. */
int program_said(const struct program *p);

/*
 * Waits until it has ended. 0, or -EIO with the first line that it wrote to stderr. No-op when it
 * was not started.
 */
int program_end(struct program *p);

/* Ends it now, without a sentence: the one that is stored stays. */
void program_kill(struct program *p);

#endif
