/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process: builds a machine (cold, or from a snapshot), gives it its
 * request, takes its own privileges away and runs it to its end. One per process.
 */
#ifndef VIRGA_SERVE_MACHINE_PROCESS_H
#define VIRGA_SERVE_MACHINE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/config.h"
#include "boot/snapshot/snapshot.h"
#include "devices/channel/protocol.h"

/* One request to send before the first guest instruction, and where its answer goes. */
struct machine_request {
	const void *data;
	size_t len;
	uint32_t timeout_ms; /* 0: none */
	bool keep;           /* go on running after the answer */
	/* Called once under the VM lock; data is valid for the call. -errno ends as a host failure. */
	int (*answer)(void *opaque, enum channel_type type, const void *data, size_t len);
	/* Optional. After a machine that ended with an answer, no lock held, time-out still running:
	   passes the answer on. -ETIMEDOUT, -EINTR (a signal) or another -errno, with a sentence. */
	int (*deliver)(void *opaque);
	void *opaque;
};

struct machine_options {
	const struct config *config; /* of a cold boot; names and devices in any case */
	struct snapshot *snapshot;   /* NULL: cold boot */
	bool stdio;                  /* standard input and output are for the serial port */
	bool clone;                  /* of the snapshot: new identity */
	uint32_t clone_number;
	int supervisor_fd;                     /* -1: none; owned */
	const struct machine_request *request; /* NULL: none */
	bool one_of_many; /* a clone whose sentences name it, and whose parent ends it */
	bool timing;      /* stages on stderr */
	/* Maps the snapshot's memory in place of snapshot_map_memory(); NULL for that one. */
	int (*map_memory)(void *opaque, struct snapshot *snapshot, struct memory *memory);
	void *map_opaque;
	uint64_t main_us;    /* monotonic_us() when main was entered */
	uint64_t process_us; /* CPU time before main */
};

/* Runs the machine to its end. Returns the exit status; prints the sentence without a supervisor. */
int machine_main(const struct machine_options *options);

/* The exit status of run, restore, clone and invoke for a machine's end. */
int machine_status(const struct vm_end *end);

#endif
