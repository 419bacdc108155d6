/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the supervisor share: a supervisor in a process of its own, over
 * a fake VM process that speaks serve/ipc/message.h, and a QMP client.
 */
#ifndef VIRGA_TESTS_UNIT_SUPERVISOR_FIXTURE_H
#define VIRGA_TESTS_UNIT_SUPERVISOR_FIXTURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/vm.h"
#include "serve/ipc/message.h"

struct fixture {
	char dir[64];
	char control[96];
	char vsock[96]; /* of device 0 */
	char other[96]; /* of device 2, of a class that only the test has; device 1 asks nothing */
	char snapshot[96];
	char log[96];
	void (*vm)(int fd); /* the VM process */
	bool long_paths;    /* in its configuration, which no message would hold */
	pid_t supervisor;
	int terminal; /* slave of a pty for its stdin, or -1 */
	int client;
	char in[65536];
	size_t in_len;
};

int supervisor_setup(void **state);
int supervisor_teardown(void **state);

/* Starts a supervisor whose VM process runs vm() with its end of the pair, then exits with 77. */
void supervisor_start(struct fixture *f, void (*vm)(int fd));

/* Waits for its end: exit status as wanted, the sentence on stderr, no socket file left. */
void supervisor_expect_end(struct fixture *f, int status, const char *sentence);

/* --- For the fake VM process --- */

void vm_say(int fd, enum message_type type, uint64_t id, uint32_t value, const char *text);
void vm_end_with(int fd, enum vm_end_reason reason, uint32_t status, const char *text);

/* The next message; the process ends when the supervisor is gone. */
void vm_next(int fd, struct message *m);

/* Answers as a VM process does, until told to quit. */
void vm_serve(int fd);

/* A machine with two vCPUs that is ready at once. */
void vm_plain(int fd);

/* Ready, and killed in the middle of the first snapshot. */
void vm_dies_saving(int fd);

/* --- A client --- */

/* A connection, once there is a socket; qmp_client_begin() makes it f->client and negotiates. */
int qmp_client_open(struct fixture *f);
void qmp_client_begin(struct fixture *f);

void qmp_client_say(struct fixture *f, const char *text);
void qmp_client_migrate(struct fixture *f, const char *dir);

/* The next message, owned by the caller; NULL at the end of the connection. */
json_t *qmp_client_next(struct fixture *f);

/* The next message must have that member, with the wanted text in its JSON. */
void qmp_client_expect(struct fixture *f, const char *member, const char *wanted);

/* Repeats a command until the wanted text is in its reply / until the machine is ready. */
void qmp_client_wait_status(struct fixture *f, const char *command, const char *wanted);
void qmp_client_wait_ready(struct fixture *f);

#endif
