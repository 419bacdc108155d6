/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests by HTTP (serve/host/lambda.h): what each is for, and the beginning of an invocation. Its end:
 * serve/host/lambda_answer.c; the other pages: serve/host/report.c.
 */
#include "serve/host/lambda.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/json_text.h"
#include "serve/host/lambda_call.h"
#include "serve/host/lambda_name.h"
#include "serve/host/report.h"

/* --- Request ids: UUIDs of random numbers (RFC 9562, 5.4) --- */

static void api_new_id(struct api *api, char id[API_ID_LEN + 1])
{
	const uint8_t *r;
	char *p = id;

	if (api->random_left < 16) {
		if (getrandom(api->random, sizeof(api->random), 0) < 0)
			memset(api->random, 0, sizeof(api->random));
		api->random_left = sizeof(api->random);
	}
	api->random_left -= 16;
	r = api->random + api->random_left;
	for (unsigned i = 0; i < 16; i++) {
		uint8_t byte = i == 6 ? (r[i] & 0x0f) | 0x40 : i == 8 ? (r[i] & 0x3f) | 0x80 : r[i];

		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = "0123456789abcdef"[byte >> 4];
		*p++ = "0123456789abcdef"[byte & 15];
	}
	*p = '\0';
}

/* --- A request --- */

static bool api_wants_tail(const struct http_conn *c)
{
	const struct http_text *type = http_header(c, "x-amz-log-type");

	return type && http_is(type, "tail");
}

/* What kind of invocation it is: 0 to run it, else it has been answered. */
static int api_check_type(struct http_conn *c, const char *id)
{
	const struct http_text *type = http_header(c, "x-amz-invocation-type");
	char head[128];

	if (!type || http_is(type, "requestresponse"))
		return 0;
	if (http_is(type, "dryrun")) {
		snprintf(head, sizeof(head), "x-amzn-RequestId: %s\r\n", id);
		http_respond(c, 204, head, NULL, 0);
	} else if (http_is(type, "event")) {
		api_refuse(c, id, 400, "InvalidParameterValueException",
			   "invocations of type Event are not offered: they would have to outlive "
			   "this host, and nothing here keeps them; use RequestResponse");
	} else {
		api_refuse(c, id, 400, "InvalidParameterValueException",
			   "X-Amz-Invocation-Type: RequestResponse and DryRun are allowed");
	}
	return -EINVAL;
}

/* The function that the request names; NULL when it has been refused. */
static struct function *api_find(struct api *api, struct http_conn *c, const char *id,
				 const char *name, size_t len)
{
	const char *qualifier;
	struct function_name parsed;
	struct function *f;
	char text[256];
	size_t q_len;

	if (!function_name_parse(&parsed, name, len)) {
		api_refuse(c, id, 400, "InvalidParameterValueException",
			   "no name of a function: NAME (letters, digits, - and _, 64 at most), "
			   "NAME:QUALIFIER or an ARN");
		return NULL;
	}
	if (query_value(c->target.data, c->target.len, "Qualifier", &qualifier, &q_len) &&
	    q_len > 384) {
		api_refuse(c, id, 400, "InvalidParameterValueException",
			   "the qualifier is too long");
		return NULL;
	}
	f = function_find(api->pool, parsed.name, parsed.name_len);
	if (f && f->version)
		return f;
	snprintf(text, sizeof(text), "Function not found: %s%s", parsed.name,
		 f ? " (its template is being loaded, or could not be)" : "");
	api_refuse(c, id, 404, "ResourceNotFoundException", text);
	return NULL;
}

static void api_throttle(struct api_call *call)
{
	const struct function *f = call->inv.function;
	struct http_conn *c = call->conn;
	char text[160];

	call->inv.function->stats.results[RESULT_THROTTLED]++;
	snprintf(text, sizeof(text), "Rate exceeded: %u requests run and %u wait for %s", f->active,
		 f->waiting, f->config.name);
	api_refuse(c, call->id, 429, "TooManyRequestsException", text);
	api_log(call, NULL, 429, RESULT_THROTTLED, 0, monotonic_ns());
	free(call);
}

/* No shell is spent on a payload that is quickly seen to be wrong; nobody waits for a long look. */
static bool api_is_wrong(const struct api_call *call)
{
	return call->inv.function->config.json && call->inv.payload_len <= INVOCATION_LOOK_MAX &&
	       !json_text_valid(call->inv.payload, call->inv.payload_len);
}

static void api_invoke(struct api *api, struct http_conn *c, const char *name, size_t len)
{
	char id[API_ID_LEN + 1];
	struct api_call *call;
	struct function *f;

	api_new_id(api, id);
	f = api_find(api, c, id, name, len);
	if (!f || api_check_type(c, id) < 0)
		return;
	call = malloc(sizeof(*call));
	if (!call) {
		api_refuse(c, id, 500, "ServiceException", "out of memory");
		return;
	}
	*call = (struct api_call){
		.inv = {
			.function = f,
			.deadline_us = monotonic_us() + f->config.timeout_ms * 1000ull,
			.payload = c->body.data,
			.payload_len = c->body.len,
			.done = api_done,
			.opaque = call,
		},
		.api = api,
		.conn = c,
		.first_ns = c->first_ns,
		.tail = api_wants_tail(c),
	};
	memcpy(call->id, id, sizeof(id));
	if (f->config.json && !c->body.len) { /* what an SDK sends when it is given nothing */
		call->inv.payload = "{}";
		call->inv.payload_len = 2;
	}
	c->opaque = call;
	if (api_is_wrong(call))
		api_done(&call->inv, &(struct invocation_end){ .outcome = OUTCOME_NOT_JSON });
	else if (!pool_invoke(api->pool, &call->inv))
		api_throttle(call);
}

static const struct {
	unsigned status;
	const char *type;
	const char *message;
} api_refusals[] = {
	{ 413, "RequestTooLargeException", "the request's payload is larger than 6291456 bytes" },
	{ 431, "RequestHeaderFieldsTooLargeException",
	  "the request line and headers are larger than 16 KiB or more than 64" },
	{ 408, "RequestTimeoutException", "the request did not come in time" },
	{ 503, "ServiceUnavailableException", "no memory for the request's payload" },
	{ 501, "NotImplementedException",
	  "CONNECT is not offered, nor a transfer coding but chunked" },
	{ 505, "HTTPVersionNotSupportedException", "HTTP/1.1 is spoken here" },
	{ 400, "BadRequestException", "this is no HTTP/1.1 request with one Host" },
};

/* What the server could not read as a request. */
static void api_refuse_bad(struct api *api, struct http_conn *c)
{
	char id[API_ID_LEN + 1];
	size_t i = 0;

	api_new_id(api, id);
	while (api_refusals[i].status != c->refuse && api_refusals[i].status != 400)
		i++;
	api_refuse(c, id, api_refusals[i].status, api_refusals[i].type, api_refusals[i].message);
}

/* Whether a host, with a port or without, is this machine by a name that nobody else can give it. */
static bool api_is_local(const char *host, size_t len)
{
	for (size_t i = len; i-- > 0 && host[i] >= '0' && host[i] <= '9';)
		if (i && host[i - 1] == ':') {
			len = i - 1;
			break;
		}
	if (len > 4 && memcmp(host, "127.", 4) == 0)
		return strspn(host, "0123456789.") >= len;
	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	       (len == 5 && memcmp(host, "[::1]", 5) == 0);
}

/*
 * A page in a browser must not use a host that trusts whoever reaches it: neither as itself (RFC 6454,
 * 6.2) nor under a name of its own that it has made lead here.
 */
static const char *api_foreign(const struct http_conn *c)
{
	static const char scheme[] = "http://";
	const size_t at = sizeof(scheme) - 1;
	const struct http_text *origin = http_header(c, "origin"), *host = http_header(c, "host");

	if (origin && (origin->len < at || memcmp(origin->data, scheme, at) != 0 ||
		       !api_is_local(origin->data + at, origin->len - at)))
		return "a page of another machine may not use this host";
	if (c->tcp && host && !api_is_local(host->data, host->len))
		return "a Host other than 127.0.0.1, [::1] or localhost is not served here";
	return NULL;
}

void api_request(void *opaque, struct http_conn *c)
{
	struct api *api = opaque;
	char id[API_ID_LEN + 1];
	const char *name, *foreign;
	size_t len;

	api->requests++;
	if (c->refuse) {
		api_refuse_bad(api, c);
		return;
	}
	foreign = api_foreign(c);
	if (foreign) {
		api_new_id(api, id);
		api_refuse(c, id, 403, "AccessDeniedException", foreign);
		return;
	}
	if (!invoke_target(c->target.data, c->target.len, &name, &len)) {
		if (report_request(api, c))
			return;
		api_new_id(api, id);
		api_refuse(c, id, 404, "ResourceNotFoundException",
			   "there is nothing here; POST /2015-03-31/functions/NAME/invocations "
			   "invokes, GET / shows how the host is");
		return;
	}
	if (c->parser.method == HTTP_POST) {
		api_invoke(api, c, name, len);
		return;
	}
	api_new_id(api, id);
	api_refuse(c, id, 405, "MethodNotAllowedException", "a function is invoked by POST");
}

void api_gone(void *opaque, struct http_conn *c)
{
	struct api_call *call = c->opaque;

	(void)opaque;
	if (!call)
		return;
	pool_cancel(call->api->pool, &call->inv);
	call->inv.function->stats.results[RESULT_CANCELLED]++;
	api_log(call, NULL, 499, RESULT_CANCELLED, 0, monotonic_ns());
	free(call);
}

void api_init(struct api *api, struct http_server *http, struct pool *pool, struct log *log)
{
	*api = (struct api){ .http = http, .pool = pool, .log = log, .start_us = monotonic_us() };
}
