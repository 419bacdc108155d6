/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processes of one program say to each other: datagrams over a SOCK_SEQPACKET pair,
 * descriptors beside them by SCM_RIGHTS. A process that runs a guest is confined and may be
 * hostile: whoever is not confined checks every message that it gets.
 */
#ifndef VIRGA_SERVE_IPC_MESSAGE_H
#define VIRGA_SERVE_IPC_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

/*
 * By the pair of processes that says it. id, value, text and fds are those of struct message; what is
 * not named is 0 or empty. "errno": 0 when it went well.
 */
enum message_type {
	MESSAGE_NONE, /* never sent */

	/* A supervisor, or a template's builder, to its VM process (serve/machine/link.h) */
	MESSAGE_STOP = 1,      /* pause. id: is in MESSAGE_STOPPED */
	MESSAGE_CONT,          /* run on. id: is in MESSAGE_RUNNING */
	MESSAGE_QUIT,          /* end. value: the signal that asks for it, or 0 for QMP's quit */
	MESSAGE_SNAPSHOT,      /* save. text: struct snapshot_config; fds: state, memory */
	MESSAGE_DEVICE_ANSWER, /* id: of a device's question; value: errno; fds: one, if any */
	MESSAGE_REQUEST,       /* id; value: ms the guest has; text, or a memfd: the request */
	MESSAGE_QUIESCE,       /* have the guest finish what it does */
	MESSAGE_POWERDOWN,     /* press the power button. id: is in MESSAGE_PRESSED */

	/* A VM process to its supervisor or builder; a clone to its parent says MESSAGE_ANSWER */
	MESSAGE_STOPPED = 32,  /* id: of MESSAGE_STOP */
	MESSAGE_RUNNING,       /* id: of MESSAGE_CONT */
	MESSAGE_READY,         /* the guest is */
	MESSAGE_SNAPSHOT_DONE, /* value: errno; text: its sentence, or "pause_us N" */
	MESSAGE_CONNECT, /* a device asks. id: of the question, its number above bit 48; value: port */
	MESSAGE_THREADS, /* it runs. text: the vCPU thread ids, space-separated */
	MESSAGE_ANSWER,  /* value: channel type; id: us from start; text, or a memfd: the payload */
	MESSAGE_ENDED,   /* id: vm_end_reason; value: exit status; text: its sentence */
	MESSAGE_QUIESCED, /* of MESSAGE_QUIESCE */
	MESSAGE_PRESSED,  /* id: of MESSAGE_POWERDOWN; value: errno; text: its sentence */

	/* The front to its spawner (serve/pool/spawner.h) */
	MESSAGE_TEMPLATE = 64, /* id: of the template; text: its name; fds: memory, parts, sealed */
	MESSAGE_FORGET,        /* id: of the template */
	MESSAGE_SPAWN, /* id: of the shell; value: its template; text: its kind, a byte; fds: its end */
	MESSAGE_KILL, /* id: of the shell */

	/* The spawner to its front */
	MESSAGE_DEAD = 80, /* id: of the shell; value: its wait status */
	MESSAGE_SPAWNER,   /* it takes orders; value: errno, why it cannot be executed */

	/* The front to a shell (serve/ipc/invocation.h) */
	MESSAGE_INVOKE = 96, /* id; text: struct invoke_head and on; fds: by its flags */

	/* A shell to its front; what became of an invocation is MESSAGE_ANSWER, by invocation.h too */
	MESSAGE_SHELL = 112, /* it waits. value: errno, why not; text: its sentence; id: 1 after a
			      * reset that had to forget translations */

	/* A loader to its front (serve/template/loader.h) */
	MESSAGE_LOADING = 128, /* it can be read; id: bytes of it on its disk */
	MESSAGE_LOADED,        /* value: errno; text: its sentence; fds: memory, parts, sealed */

	/* A trial clone to its builder (serve/template/trial.h); its answer is MESSAGE_ANSWER */
	MESSAGE_MEMORY = 144, /* id: its address; value: enum trial_source; fds: that, if any */
};

#define MESSAGE_TEXT_MAX 16384
#define MESSAGE_FDS_MAX  36 /* one for each virtio device of a machine, and an invocation's */

struct message {
	uint32_t type;
	uint32_t value;
	uint64_t id;
	uint32_t text_len;        /* bytes; a received text has a NUL behind them */
	uint32_t fd_count;        /* filled by message_receive from what really came */
	int fds[MESSAGE_FDS_MAX]; /* sent: borrowed; received: owned by the caller */
	char text[MESSAGE_TEXT_MAX + 1];
};

/* An otherwise empty message (text is left as it is, beyond text_len). */
void message_init(struct message *m, enum message_type type);

/* Sets the text; one that is too long is cut. */
void message_set_text(struct message *m, const char *text);

/*
 * Sends one message (type, value, id, text_len bytes of text, fd_count fds). 0 or -errno, no
 * sentence. Any thread. message_send waits for a peer that is slow to read, message_try answers
 * -EAGAIN instead.
 */
int message_send(int fd, const struct message *m);
int message_try(int fd, const struct message *m);

/*
 * Receives one without waiting. 1: got one; 0: the peer is gone; -EAGAIN; -EPROTO for a malformed
 * one (its fds are closed). Descriptors get CLOEXEC.
 */
int message_receive(int fd, struct message *m);

/* The same, waiting for one; -EAGAIN only when fd does not block. */
int message_wait(int fd, struct message *m);

/* Closes the descriptors of a received message that nobody took (taken ones are set to -1). */
void message_close_fds(struct message *m);

#endif
