/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shell: the VM process of the function host. It is made and confined before there
 * is a request, waits for one on its socket, runs the guest until its answer, and then ends, goes
 * back to its template or stays as it is. What it needs later comes by that socket.
 *
 * An armed shell has a template's memory mapped, its write set copied and its state loaded, and
 * its guest has not run. A bare one has all that does not depend on a template: any template of the
 * same shape (memory, vCPUs, devices, CPUID) can be laid over it. Either has entered its vCPU once
 * for a few instructions of virga's own: the guest's first entry then takes 70 us in place of 125,
 * for 90 us and 330 KiB of KVM's caches beforehand.
 */
#ifndef VIRGA_SERVE_MACHINE_SHELL_H
#define VIRGA_SERVE_MACHINE_SHELL_H

#include "boot/snapshot/snapshot.h"
#include "serve/ipc/invocation.h"

struct shell_options {
	/* Armed: the template, its memory is taken. Bare: one of its shape; it stays opened. */
	struct snapshot *snapshot;
	enum shell_kind kind;
	int fd; /* to the front (serve/ipc/invocation.h), a blocking SOCK_SEQPACKET; owned */
};

/*
 * The life of a shell, in a process of its own that has no other thread. Says by MESSAGE_SHELL when
 * it waits, or why it cannot. Returns when the front is gone or it is of no more use.
 */
void shell_main(const struct shell_options *options);

#endif
