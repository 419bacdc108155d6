/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking privilege away from the VM process, once, when its last host resource is
 * open: no new privileges, no capabilities, no core dumps, and a system call filter built
 * at compile time (filter_gen.c) from the role's list.
 */
#ifndef VIRGA_SECCOMP_CONFINE_H
#define VIRGA_SECCOMP_CONFINE_H

/* What the process is, and so which filter it gets. */
enum confine_role {
	/* A machine that nobody can pause or save or bring a connection: the narrowest. */
	CONFINE_ALONE,
	/* One whose supervisor can. */
	CONFINE_SUPERVISED,
	/* A shell of the function host, which may also load a machine's state. */
	CONFINE_SHELL,
};

/*
 * No new privileges, no capabilities, no core dump, no access by ptrace. Capabilities belong to
 * a thread: to be called before the first other thread is made. 0 or -errno with a sentence.
 */
int confine_privileges(void);

/*
 * The system call filter, for all threads of the process (TSYNC); calls confine_privileges() if
 * nobody has. A call that the filter does not know ends the process with SIGSYS. No thread
 * can be made afterwards. 0 or -errno with a sentence. Cannot be undone.
 */
int confine_process(enum confine_role role);

#endif
