/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One invocation by HTTP, between serve/host/lambda.c, which begins it, and serve/host/lambda_answer.c.
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_CALL_H
#define VIRGA_SERVE_HOST_LAMBDA_CALL_H

#include "serve/host/lambda.h"

struct api_call {
	struct invocation inv;
	struct api *api;
	struct http_conn *conn;
	uint64_t first_ns; /* its first bytes */
	bool tail;         /* the log is wanted */
	char id[API_ID_LEN + 1];
};

/* An error of the interface: its name in a header, what happened in the body. id: the request's. */
void api_refuse(struct http_conn *c, const char *id, unsigned status, const char *type,
		const char *message);

/* struct invocation's done: answers, logs, counts, frees the call. */
void api_done(struct invocation *inv, const struct invocation_end *end);

/* The line in the log. head: NULL when no shell answered. */
void api_log(const struct api_call *call, const struct answer_head *head, unsigned status,
	     enum result result, size_t response_len, uint64_t done_ns);

#endif
