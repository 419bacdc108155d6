/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a supervisor and its VM process say to each other: datagrams over a
 * SOCK_SEQPACKET pair, descriptors beside them by SCM_RIGHTS. The VM process is
 * confined and may be hostile: the supervisor checks every message it gets.
 */
#ifndef VIRGA_SERVE_IPC_MESSAGE_H
#define VIRGA_SERVE_IPC_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

enum message_type {
	MESSAGE_NONE, /* never sent */
	/* supervisor -> VM process */
	MESSAGE_STOP = 1, /* pause; answered by MESSAGE_STOPPED with the same id */
	MESSAGE_CONT,     /* run on; answered by MESSAGE_RUNNING with the same id */
	MESSAGE_QUIT,     /* end; value: the signal that asks for it, or 0 for QMP quit */
	MESSAGE_SNAPSHOT, /* fds: state, memory; text: the config; answered by MESSAGE_SNAPSHOT_DONE */
	MESSAGE_DEVICE_ANSWER, /* id: of a device's question; value: 0 or an errno; a fd, if any */
	MESSAGE_REQUEST, /* id; value: ms the guest has; text: the request; answered by MESSAGE_ANSWER */
	MESSAGE_QUIESCE, /* answered by MESSAGE_QUIESCED when the guest has */
	/* front -> spawner (serve/pool/spawner.h) */
	MESSAGE_TEMPLATE = 32, /* id; fds: memory and parts, sealed; text: its name */
	MESSAGE_FORGET,        /* id of a template */
	MESSAGE_SPAWN, /* id of the shell; value: its template; text: one byte, its kind; its fd */
	MESSAGE_KILL,  /* id of a shell */
	/* front -> shell (serve/ipc/invocation.h) */
	MESSAGE_INVOKE = 48, /* answered by MESSAGE_ANSWER */
	/* VM process -> supervisor */
	MESSAGE_STOPPED = 64,
	MESSAGE_RUNNING,
	MESSAGE_READY,
	MESSAGE_SNAPSHOT_DONE, /* value: 0 or an errno; text: its sentence, or "pause_us N" */
	MESSAGE_CONNECT, /* a device asks: id; value: vsock port; answered by MESSAGE_DEVICE_ANSWER */
	MESSAGE_THREADS, /* it runs; text: the vCPU thread ids, space-separated */
	MESSAGE_ANSWER,  /* value: channel type; id: us from start; text, or a memfd: the payload */
	MESSAGE_ENDED,   /* id: vm_end_reason; value: exit status; text: sentence */
	MESSAGE_QUIESCED,
	/* of a shell: it waits for MESSAGE_INVOKE; value: 0, or an errno and text; id: 1 after a reset
	 * that had to forget translations */
	MESSAGE_SHELL,
	MESSAGE_MEMORY, /* of a trial clone (serve/template/trial.h); id: its address; value, fd */
	/* spawner -> front */
	MESSAGE_DEAD, /* id of a shell; value: its wait status */
};

#define MESSAGE_TEXT_MAX 16384
#define MESSAGE_FDS_MAX \
	36 /* one for each virtio device that a machine may have, and an invocation's */

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
