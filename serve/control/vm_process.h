/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process as its supervisor sees it: what it says becomes QMP state and events,
 * what QMP asks becomes messages (serve/ipc/message.h). Nothing it says is trusted further
 * than to itself: a message that makes no sense ends that VM process.
 */
#ifndef VIRGA_SERVE_CONTROL_VM_PROCESS_H
#define VIRGA_SERVE_CONTROL_VM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/base/loop.h"
#include "boot/config.h"
#include "serve/control/snapshot_job.h"
#include "serve/control/socket.h"
#include "serve/control/view.h"

#define VM_PROCESS_GRACE_S 10 /* for a VM process that was told to end, or has hung up */

struct vm_process {
	const struct config *config;
	const struct device_list *devices; /* of the machine; a question has the number in it */
	struct loop *loop;
	struct control_socket *control;
	pid_t child; /* 0 before vm_process_start(); not reaped before vm_process_fini() */
	int fd;      /* owned; -1 before vm_process_start() */
	struct loop_watch *watch; /* NULL once it has hung up */
	int timer_fd;             /* expires when the grace is over; owned */
	struct loop_watch *timer_watch;
	struct view view;
	struct snapshot_job job;
	uint64_t tickets;  /* given out to commands that are answered later */
	bool started;      /* the machine runs, or ran */
	bool quitting;     /* it has been told to end */
	bool killed;       /* by us */
	bool ended;        /* the verdict is known */
	int status;        /* exit status, once ended */
	char verdict[512]; /* sentence for stderr, or "", once ended */
};

/*
 * One that is still to be started: until then what is asked of it is refused, but to quit. control
 * may be uninitialised until the loop runs. 0 or -errno with a sentence.
 */
int vm_process_init(struct vm_process *p, struct loop *loop, struct control_socket *control,
		    const struct config *config, const struct device_list *devices);

/*
 * Forks the VM process, in which vm() has its end of a pair and returns the exit status; serves the
 * other end in the loop. vm() is called with the loop abandoned. 0 or -errno with a sentence; after
 * a failure child may be set.
 */
int vm_process_start(struct vm_process *p, int (*vm)(void *opaque, int fd), void *opaque);

/* After vm_process_dead(): ends a snapshot, removes the sockets that its devices have made. */
void vm_process_fini(struct vm_process *p);

/*
 * Tells the machine to end, by that signal or (0) by QMP's quit; kills what does not listen. Of one
 * that was not started, nothing is left to run the loop for.
 */
void vm_process_quit(struct vm_process *p, int signal);

/* The child is dead: hears what it said last, then says SHUTDOWN if that was not said. */
void vm_process_dead(struct vm_process *p);

#endif
