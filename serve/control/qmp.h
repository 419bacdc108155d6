/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QMP session, bytes in and bytes out (the QEMU Machine Protocol, as QEMU's
 * docs/interop/qmp-spec describes it; the commands are listed in qmp_commands.c).
 * It owns framing, replies and limits; it knows no socket (serve/control/socket.c) and no
 * machine (serve/control/supervisor.c). What a client sends is not trusted.
 */
#ifndef VIRGA_SERVE_CONTROL_QMP_H
#define VIRGA_SERVE_CONTROL_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"
#include "serve/control/view.h"

#define QMP_COMMAND_MAX      (64u << 10) /* bytes of one command */
#define QMP_OUTPUT_MAX       (64u << 10) /* bytes that wait for a client that does not read */
#define QMP_DEPTH_MAX        32          /* nested objects and arrays in a command */
#define QMP_GARBAGE_MAX      16          /* unreadable commands until the session is closed */

/* Ours: an event that no QEMU has goes to those only who have enabled the capability for it. */
#define QMP_READY_EVENT      "VIRGA_READY"
#define QMP_READY_CAPABILITY "virga-ready"

struct json_t;

struct qmp {
	const struct view *view;
	struct blob out; /* bytes for the client; the owner sends and removes them */
	bool closing;    /* to be closed once `out` is sent; nothing more is read */
	bool dropped;    /* to be closed now: it does not read what it is sent */
	bool negotiated;
	bool wants_ready;  /* QMP_READY_CAPABILITY is enabled */
	bool waiting;      /* for qmp_complete(): commands behind it wait too */
	uint64_t ticket;   /* what it waits for */
	struct json_t *id; /* of the command in hand, owned; NULL when it has none */
	unsigned garbage;  /* unreadable commands so far */
	struct blob in;    /* bytes not yet taken as a command */
	struct {           /* how far `in` has been looked at */
		size_t at;
		unsigned depth;
		bool in_string;
		bool escaped;
		bool broken; /* cannot become JSON: ends at the next newline */
	} scan;
};

/* Begins a session: the greeting is in q->out. view must outlive it. */
void qmp_init(struct qmp *q, const struct view *view);
void qmp_fini(struct qmp *q);

/* Takes bytes from the client, in any pieces, and answers every whole command among them. */
void qmp_feed(struct qmp *q, const void *data, size_t len);

/* Ends the wait for `ticket`: replies, goes on with what came meanwhile. error: -errno or 0. */
void qmp_complete(struct qmp *q, uint64_t ticket, int error);

/* Sends an event to a session that has negotiated and wants it. data: borrowed, may be NULL. */
void qmp_event(struct qmp *q, const char *name, const struct json_t *data);

/* --- Between qmp.c, qmp_commands.c and, below both, qmp_reply.c --- */

/*
 * Runs one command object. Returns the value of "return" (owned by the caller), or NULL after
 * qmp_fail(), or NULL with q->waiting set.
 */
struct json_t *qmp_execute(struct qmp *q, struct json_t *command);

/*
 * {"qemu": {major, minor, micro}, "package"}, owned by the caller: the QEMU whose schema the commands
 * follow, by which clients decide what they may send, and what this is.
 */
struct json_t *qmp_version(void);

/* Sends one object, which it releases; NULL (out of memory) ends the session. */
void qmp_send(struct qmp *q, struct json_t *object);

/* Sends {key: value} with the id of the command in hand, which is thereby answered. */
void qmp_reply(struct qmp *q, const char *key, struct json_t *value);

/* Replies with an error. class: NULL for GenericError. */
void qmp_fail(struct qmp *q, const char *class, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
