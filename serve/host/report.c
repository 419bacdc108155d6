/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which page a request is for (serve/host/report.h).
 */
#include "serve/host/report.h"

#include <stdlib.h>
#include <string.h>

struct report {
	const char *path;
	const char *head;
	void (*write)(struct lambda *lambda, FILE *out);
};

static void report_health(struct lambda *lambda, FILE *out)
{
	const char *why = pool_unable(lambda->pool);

	if (lambda->http->draining)
		fputs("draining\n", out);
	else if (why)
		fprintf(out, "no machine can be made: %s\n", why);
	else
		fputs("ok\n", out);
}

static const struct report reports[] = {
	{ "/",
	  "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
	  "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n",
	  report_page },
	{ "/healthz", "Content-Type: text/plain\r\n", report_health },
	{ "/metrics", "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
	  report_metrics },
	{ "/status", "Content-Type: application/json\r\n", report_status },
};

static const struct report *report_find(const struct http_conn *c)
{
	const char *query = memchr(c->target.data, '?', c->target.len);
	size_t len = query ? (size_t)(query - c->target.data) : c->target.len;

	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++)
		if (strlen(reports[i].path) == len &&
		    memcmp(reports[i].path, c->target.data, len) == 0)
			return &reports[i];
	return NULL;
}

bool report_request(struct lambda *lambda, struct http_conn *c)
{
	const struct report *report = report_find(c);
	unsigned status = 200;
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (!report || (c->parser.method != HTTP_GET && c->parser.method != HTTP_HEAD))
		return false;
	out = open_memstream(&text, &len);
	if (out) {
		report->write(lambda, out);
		if (fclose(out) != 0)
			len = 0;
	}
	if (report->write == report_health && strcmp(report_state(lambda), "ready") != 0)
		status = 503;
	http_respond(c, text && len ? status : 500, report->head, text ? text : "", len);
	free(text);
	return true;
}
