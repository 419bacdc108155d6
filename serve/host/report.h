/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host says about itself: GET /healthz, /metrics (Prometheus text), /status (JSON)
 * and / (a page to look at).
 */
#ifndef VIRGA_SERVE_HOST_REPORT_H
#define VIRGA_SERVE_HOST_REPORT_H

#include <stdio.h>

#include "serve/host/lambda.h"

/* Answers a request for one of these. False: it is for something else. */
bool report_request(struct lambda *lambda, struct http_conn *c);

/* serve/host/status.c: how the host is, in a word: ready, unable (to make a machine), draining. */
const char *report_state(const struct lambda *lambda);

/* serve/host/metrics.c, serve/host/status.c, serve/host/status_page.c: write the whole text. */
void report_metrics(struct lambda *lambda, FILE *out);
void report_status(struct lambda *lambda, FILE *out);
void report_page(struct lambda *lambda, FILE *out);

#endif
