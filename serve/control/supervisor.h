/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: the unconfined half of a running machine. It owns the control
 * socket (QMP), snapshot directories, the terminal's settings, unix paths and the
 * exit status; the VM process owns KVM, devices and guest memory and once confined opens nothing.
 */
#ifndef VIRGA_SERVE_CONTROL_SUPERVISOR_H
#define VIRGA_SERVE_CONTROL_SUPERVISOR_H

#include <stdbool.h>

#include "boot/config.h"

struct supervisor_options {
	const struct config *config;       /* control, name; stored in snapshots */
	const struct device_list *devices; /* all of the machine's, in its order: who asks what */
	bool terminal;                     /* the serial port is on standard input and output */
	int control_fd; /* listening control socket from supervisor_listen, or -1; owned */
	/*
	 * What the VM process does: it is forked for that, has its end of a SOCK_SEQPACKET pair to
	 * say how it goes (serve/ipc/message.h; owned), and exits with what this returns.
	 */
	int (*vm)(void *opaque, int fd);
	void *opaque;
};

/*
 * Binds a unix stream socket (mode 0600) at path: a socket file that nobody listens on is
 * replaced, a live one is -EADDRINUSE, a path too long -ENAMETOOLONG. fd or -errno, sentence.
 */
int supervisor_listen(const char *path);

/*
 * Starts the VM process, serves until it is gone, reaps it, removes the socket paths and restores
 * the terminal.
 * SIGTERM, SIGINT, SIGHUP (blocked by the caller) end the VM. Prints the sentence that says how it
 * ended. Returns the exit status.
 */
int supervisor_run(const struct supervisor_options *options);

#endif
