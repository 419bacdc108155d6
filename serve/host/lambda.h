/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What requests to the host mean: AWS Lambda's Invoke (its API reference, "Invoke"), and the pages
 * that say how the host is. Between serve/http/http.h and serve/pool/pool.h.
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_H
#define VIRGA_SERVE_HOST_LAMBDA_H

#include "serve/host/config.h"
#include "serve/host/log.h"
#include "serve/http/http.h"
#include "serve/pool/pool.h"

struct lambda {
	struct http_server *http;
	struct pool *pool;
	struct log *log;
	const struct host_names *hosts; /* NULL: none */
	uint64_t start_us;
	uint64_t requests; /* of all kinds */
	unsigned random_left;
	uint8_t random[1024]; /* for request ids */
};

void lambda_init(struct lambda *lambda, struct http_server *http, struct pool *pool,
		 struct log *log);

/* struct http_handler's. */
void lambda_request(void *opaque, struct http_conn *c);
void lambda_gone(void *opaque, struct http_conn *c);

#endif
