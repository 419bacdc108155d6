/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates of the embedded guest in memory and shells of them, each in a process of its own on real
 * KVM, with the test in the front's place. The program that includes it wraps confine_process: a
 * sanitizer's calls are not in the filter, nor are those of a test that looks into the machine; and
 * fstat.
 */
#ifndef VIRGA_TESTS_UNIT_SHELL_BED_H
#define VIRGA_TESTS_UNIT_SHELL_BED_H

#include <sys/types.h>

#include "boot/snapshot/sealed.h"
#include "serve/ipc/invocation.h"
#include "serve/ipc/message.h"
#include "serve/machine/shell.h"

#define SHELL_CONFIG "{}\n" /* what the templates' `config` holds */

/* Shells that are started from here on are not confined. */
extern bool shell_bed_open;

/* This program keeps what was freed, and has memory that may not be looked at. */
extern const bool shell_bed_sanitized;

/* A guest of so many MiB that has answered these requests; fails the test. learn: a working set too. */
struct sealed template_make(unsigned mib, const char *const requests[], unsigned count, bool learn);

/* The same as a snapshot. */
void template_open(const struct sealed *sealed, struct snapshot *s);

struct shell_process {
	pid_t pid;
	int fd; /* the front's end */
	struct message m;
};

/* What came back of a request. */
struct shell_answer {
	uint64_t id;
	struct answer_head head;
	char *log;  /* owned, with a NUL */
	char *data; /* owned, with a NUL */
	size_t len;
};

/* Starts one and waits until it says that it waits. */
struct shell_process shell_start(const struct sealed *sealed, enum shell_kind kind);

/* Closes its socket and waits for its end; the wait status. */
int shell_end(struct shell_process *s);

/* Sends a request; sealed: with that template. */
void shell_ask(struct shell_process *s, uint64_t id, enum policy policy, uint32_t flags,
	       const struct sealed *sealed, const char *environment, const void *data, size_t len);

/* Waits for its answer. */
struct shell_answer shell_answer_take(struct shell_process *s);
void shell_answer_free(struct shell_answer *a);

/* Waits for the word that it waits; whether it says nothing for so long. */
void shell_await(struct shell_process *s);
void shell_await_end(struct shell_process *s); /* or that its guest has ended */
bool shell_silent(const struct shell_process *s, int ms);

/* Asks, and the answer must be of that kind and, unless NULL, exactly this. */
void shell_expect(struct shell_process *s, enum policy policy, const char *request,
		  enum invocation_outcome outcome, const char *answer);

#endif
