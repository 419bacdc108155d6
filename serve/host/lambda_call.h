/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One invocation by HTTP, between serve/host/lambda.c, which begins it, and serve/host/lambda_answer.c.
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_CALL_H
#define VIRGA_SERVE_HOST_LAMBDA_CALL_H

#include "serve/host/lambda.h"

struct lambda_call {
	struct invocation inv;
	struct lambda *lambda;
	struct http_conn *conn;
	uint64_t first_ns;        /* its first bytes */
	bool tail;                /* the log is wanted */
	char id[HTTP_ID_LEN + 1]; /* the request's number, for when the connection has gone on */
};

/* What a request can be refused for. */
enum lambda_refusal {
	REFUSE_NOT, /* it is not */
	/* The server could not read it (struct http_conn, refuse). */
	REFUSE_TOO_LARGE,
	REFUSE_HEAD_TOO_LARGE,
	REFUSE_TOO_SLOW,
	REFUSE_NO_MEMORY,
	REFUSE_NOT_OFFERED,
	REFUSE_HTTP_VERSION,
	REFUSE_MALFORMED,
	/* Nobody may ask for that, or there is no such thing. */
	REFUSE_ORIGIN,
	REFUSE_HOST,
	REFUSE_TARGET,
	REFUSE_OPERATION,
	REFUSE_METHOD,
	REFUSE_NAME,
	REFUSE_QUALIFIER,
	REFUSE_TENANT,
	REFUSE_FUNCTION,
	REFUSE_LOADING,
	REFUSE_EVENT,
	REFUSE_TYPE,
	/* The invocation came to nothing. */
	REFUSE_RATE,
	REFUSE_WAITED,
	REFUSE_PAYLOAD,
	REFUSE_HOST_FAILED,
};

/*
 * Answers with an error of the interface: its name in a header, what happened in the body. message:
 * NULL for what there is to say in general. Returns the status. c may be gone afterwards.
 */
unsigned lambda_refuse(struct http_conn *c, enum lambda_refusal refusal, const char *message);

/* That of a status of struct http_conn's refuse. */
enum lambda_refusal lambda_refusal_of(unsigned status);

/* struct invocation's done: answers, logs, counts, frees the call. */
void lambda_done(struct invocation *inv, const struct invocation_end *end);

/* The line in the log. head: NULL when no shell answered. */
void lambda_log(const struct lambda_call *call, const struct answer_head *head, unsigned status,
		enum invocation_result result, size_t response_len, uint64_t done_ns);

#endif
