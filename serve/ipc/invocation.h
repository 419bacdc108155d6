/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the front of the function host and a shell say to each other about one
 * invocation: the text of MESSAGE_INVOKE and MESSAGE_ANSWER (serve/ipc/message.h), a fixed head and
 * what it counts. Between processes of one program, never on disk.
 */
#ifndef VIRGA_SERVE_IPC_INVOCATION_H
#define VIRGA_SERVE_IPC_INVOCATION_H

#include <stdint.h>

#include "serve/ipc/message.h"

#define INVOCATION_LOOK_MAX        65536u /* bytes of JSON that the front looks at, 0.2 ms at most */
#define INVOCATION_LOG_MAX         4096u  /* bytes of log that come with an answer: the last ones */
#define INVOCATION_ENVIRONMENT_MAX 4096u  /* NAME=VALUE strings, each with its NUL */

/* What becomes of a shell after its answer. */
enum policy {
	POLICY_ONCE,  /* it dies */
	POLICY_RESET, /* it gets its template's memory and state again; for the same function only */
	POLICY_KEEP,  /* it stands still until the next request of the same function */
};

enum shell_kind {
	SHELL_BARE,
	SHELL_ARMED,
	SHELL_HURRIED, /* armed; a request waits for it, so what pays only while it waits is left out */
};

/* --- MESSAGE_INVOKE: id; descriptors in this order, those that the flags name --- */

#define INVOKE_TEMPLATE 1u /* two: memory and parts of a sealed template, for a bare shell */
#define INVOKE_MEMFD    2u /* one: the payload, which is not in the text then */
#define INVOKE_JSON     4u /* the answer must be JSON */
#define INVOKE_LOOK     8u /* and so must the request, which the front has not looked at */

#define INVOKE_FDS_MAX  3 /* with all flags */

struct invoke_head {
	uint32_t flags;
	uint32_t policy; /* enum policy */
	uint32_t number; /* of the clone, for its identity */
	uint32_t environment_len;
	uint32_t payload_len;
	uint32_t reserved;
	uint64_t deadline_us; /* the guest has so long, 0: no limit */
			      /* then the environment, then the payload */
};

/*
 * The parts of a MESSAGE_INVOKE that came: its head, the environment and, as the result, the payload;
 * NULL with a sentence when they do not fit. *owned: to be freed once they are of no more use.
 */
const void *invocation_parse(const struct message *m, struct invoke_head *head,
			     const char **environment, void **owned);

/* --- MESSAGE_ANSWER: id; one descriptor if the payload is not in the text --- */

enum invocation_outcome {
	OUTCOME_RESPONSE,
	OUTCOME_ERROR,       /* the guest answered with an error; the payload is its sentence */
	OUTCOME_NOT_JSON,    /* the request is none; the guest has not seen it */
	OUTCOME_ANSWER_JSON, /* the answer is none */
	OUTCOME_TOO_LARGE,   /* the answer is */
	OUTCOME_BROKEN,      /* the guest broke the function channel off */
	OUTCOME_ENDED,       /* it powered off, exited, reset */
	OUTCOME_CRASHED,     /* it, not virga */
	OUTCOME_HOST,        /* virga or the host failed */
	OUTCOME_COUNT,
};

/* Times of one invocation in a shell, CLOCK_MONOTONIC in ns. */
enum shell_stage {
	SHELL_RECEIVED,
	SHELL_MAPPED,    /* the template's memory; equal to the one before in an armed clone, */
	SHELL_POPULATED, /* and its write set, */
	SHELL_LOADED,    /* and its state */
	SHELL_ENTERED,   /* identity and request are in the guest's queue */
	SHELL_ANSWERED,
	SHELL_STAGES,
};

#define ANSWER_NOT_COPIED 1u /* the write set was not copied in bulk before */

struct answer_head {
	uint32_t outcome;
	uint16_t log_len;
	uint16_t flags;
	uint32_t payload_len;
	uint32_t reset_us; /* that the shell took to be its template again, before this one; or 0 */
	uint64_t stages_ns[SHELL_STAGES];
	/* then the log, then the payload: an answer, or the sentence of what went wrong */
};

#endif
