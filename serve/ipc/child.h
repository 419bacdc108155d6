/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: each is forked here, ends with the process that made it, and has one socket to it.
 * Nothing else starts one, but for programs of others (serve/template/program.h). No other thread may
 * hold a lock that the child needs.
 */
#ifndef VIRGA_SERVE_IPC_CHILD_H
#define VIRGA_SERVE_IPC_CHILD_H

#include <sys/types.h>
#include <unistd.h>

struct child {
	pid_t pid; /* 0: none; to be reaped by the owner */
	int fd;    /* of the pair, this side, SOCK_SEQPACKET; owned; -1: none */
};

/*
 * Forks a child that runs main and exits with what that returns. It gets death_signal when this
 * process ends, and does not run when that has happened already. The child's pid, or -errno with a
 * sentence.
 */
pid_t child_fork(int death_signal, int (*main)(void *opaque), void *opaque);

/*
 * The same with a pair of sockets: main gets the other side, the child's to close; it has SIGKILL for
 * a death signal unless main asks for another. After a failure nothing is left. 0 or -errno with a
 * sentence.
 */
int child_start(struct child *child, int (*main)(void *opaque, int fd), void *opaque);

/*
 * In a child: its descriptors fds become `place` and the numbers after it, close-on-exec, and all above
 * them are closed: clients, templates and siblings of its parent are none of its business. 0 or -errno
 * with a sentence. count is at most 4.
 */
int child_keep(const int *fds, unsigned count, int place);

/* Closes all descriptors from first on. 0 or -errno with a sentence. */
int child_close_from(int first);

#define CHILD_FILE "/proc/self/exe"    /* the program that such a child executes */
#define CHILD_FD   (STDERR_FILENO + 1) /* its socket */

/*
 * In a child, where only what is allowed after fork(2) may be called: becomes another program, though the
 * same file, without an environment; fd becomes CHILD_FD. What this process has in memory, functions'
 * environments and whatever requests left there, is not in it. argv[0] names what it is, argv[1] is its
 * parent's process id (child_begin()). It returns only when that fails: 1, for
 * the child's main to return, with errno.
 */
int child_exec(int fd, char *const argv[]);

/*
 * First thing in such a program: takes its name, and keeps of its parent nothing but CHILD_FD and stderr.
 * 0; -EINVAL with a sentence when something else has started it; or -errno with one.
 */
int child_begin(const char *name, const char *parent);

/* Kills it, waits until it is gone and closes the socket. Of one that is none, zeroed or not: nothing. */
void child_stop(struct child *child);

#endif
