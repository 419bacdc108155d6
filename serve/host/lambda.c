/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests by HTTP (serve/host/lambda.h): what each is for, and the beginning of an invocation. Its end:
 * serve/host/lambda_answer.c; the other pages: serve/host/report.c.
 */
#include "serve/host/lambda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/json_text.h"
#include "serve/host/lambda_call.h"
#include "serve/host/lambda_functions.h"
#include "serve/host/lambda_name.h"
#include "serve/host/report.h"

#define LAMBDA_TENANT_MAX 256u

/* --- Request ids: UUIDs of random numbers (RFC 9562, 5.4) --- */

static void lambda_new_id(struct lambda *lambda, char id[HTTP_ID_LEN + 1])
{
	const uint8_t *r;
	char *p = id;

	if (lambda->random_left < 16) {
		if (getrandom(lambda->random, sizeof(lambda->random), 0) < 0)
			memset(lambda->random, 0, sizeof(lambda->random));
		lambda->random_left = sizeof(lambda->random);
	}
	lambda->random_left -= 16;
	r = lambda->random + lambda->random_left;
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

static bool lambda_wants_tail(const struct http_conn *c)
{
	const struct http_text *type = http_header(c, "x-amz-log-type");

	return type && http_is(type, "tail");
}

/* What kind of invocation it is: *dry, or one to run. */
static enum lambda_refusal lambda_check_type(struct http_conn *c, bool *dry)
{
	const struct http_text *type = http_header(c, "x-amz-invocation-type");

	*dry = type && http_is(type, "dryrun");
	if (!type || *dry || http_is(type, "requestresponse"))
		return REFUSE_NOT;
	return http_is(type, "event") ? REFUSE_EVENT : REFUSE_TYPE;
}

/* Whose request it is, as the interface has it. */
static enum lambda_refusal lambda_check_tenant(struct http_conn *c, struct http_text *tenant)
{
	static const char name[] = "x-amz-tenant-id", others[] = "._:/=+-@ ";

	*tenant = (struct http_text){ 0 };
	for (unsigned i = 0; i < c->header_count; i++) {
		if (!http_is(&c->headers[i].name, name))
			continue;
		if (tenant->data)
			return REFUSE_TENANT;
		*tenant = c->headers[i].value;
		if (!tenant->len || tenant->len > LAMBDA_TENANT_MAX)
			return REFUSE_TENANT;
	}
	for (size_t i = 0; i < tenant->len; i++)
		if (!function_name_valid(tenant->data + i, 1) &&
		    !memchr(others, tenant->data[i], sizeof(others) - 1))
			return REFUSE_TENANT;
	return REFUSE_NOT;
}

static void lambda_throttle(struct lambda_call *call)
{
	const struct function *f = call->inv.function;
	struct http_conn *c = call->conn;
	unsigned status;
	char text[160];

	call->inv.function->stats.results[RESULT_THROTTLED]++;
	snprintf(text, sizeof(text), "Rate exceeded: %u requests run and %u wait for %s", f->active,
		 f->waiting, f->config.name);
	status = lambda_refuse(c, REFUSE_RATE, text);
	lambda_log(call, NULL, status, RESULT_THROTTLED, 0, monotonic_ns());
	free(call);
}

/* No shell is spent on a payload that is quickly seen to be wrong; nobody waits for a long look. */
static bool lambda_is_wrong(const struct lambda_call *call)
{
	return call->inv.function->config.json && call->inv.payload_len <= INVOCATION_LOOK_MAX &&
	       !json_text_valid(call->inv.payload, call->inv.payload_len);
}

static void lambda_invoke(struct lambda *lambda, struct http_conn *c, struct function *f,
			  const struct http_text *tenant)
{
	struct lambda_call *call = malloc(sizeof(*call));

	if (!call) {
		lambda_refuse(c, REFUSE_HOST_FAILED, "out of memory");
		return;
	}
	*call = (struct lambda_call){
		.inv = {
			.function = f,
			.deadline_us = monotonic_us() + f->config.timeout_ms * 1000ull,
			.payload = c->body.data,
			.payload_len = c->body.len,
			.tenant = tenant->data,
			.tenant_len = tenant->len,
			.done = lambda_done,
			.opaque = call,
		},
		.lambda = lambda,
		.conn = c,
		.first_ns = c->first_ns,
		.tail = lambda_wants_tail(c),
	};
	memcpy(call->id, c->id, sizeof(call->id));
	if (f->config.json && !c->body.len) { /* what an SDK sends when it is given nothing */
		call->inv.payload = "{}";
		call->inv.payload_len = 2;
	}
	c->opaque = call;
	if (lambda_is_wrong(call))
		lambda_done(&call->inv, &(struct invocation_end){ .outcome = OUTCOME_NOT_JSON });
	else if (!pool_invoke(lambda->pool, &call->inv))
		lambda_throttle(call);
}

/* Bytes of a host without its port. */
static size_t lambda_host_len(const char *host, size_t len)
{
	for (size_t i = len; i-- > 0 && host[i] >= '0' && host[i] <= '9';)
		if (i && host[i - 1] == ':')
			return i - 1;
	return len;
}

/* Whether a host, with a port or without, is this machine by a name that nobody else can give it. */
static bool lambda_is_local(const char *host, size_t len)
{
	len = lambda_host_len(host, len);
	if (len > 4 && memcmp(host, "127.", 4) == 0)
		return strspn(host, "0123456789.") >= len;
	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	       (len == 5 && memcmp(host, "[::1]", 5) == 0);
}

/* Or by one that the configuration gives it. */
static bool lambda_is_named(const struct host_names *hosts, const char *host, size_t len)
{
	len = lambda_host_len(host, len);
	for (unsigned i = 0; hosts && i < hosts->count; i++)
		if (strlen(hosts->names[i]) == len && strncasecmp(hosts->names[i], host, len) == 0)
			return true;
	return false;
}

/*
 * A page in a browser must not use a host that trusts whoever reaches it: neither as itself (RFC 6454,
 * 6.2) nor under a name of its own that it has made lead here.
 */
static enum lambda_refusal lambda_foreign(const struct lambda *lambda, const struct http_conn *c)
{
	static const char scheme[] = "http://";
	const size_t at = sizeof(scheme) - 1;
	const struct http_text *origin = http_header(c, "origin"), *host = http_header(c, "host");

	if (origin && (origin->len < at || memcmp(origin->data, scheme, at) != 0 ||
		       !lambda_is_local(origin->data + at, origin->len - at)))
		return REFUSE_ORIGIN;
	if (c->tcp && host && !lambda_is_local(host->data, host->len) &&
	    !lambda_is_named(lambda->hosts, host->data, host->len))
		return REFUSE_HOST;
	return REFUSE_NOT;
}

/* What the request asks for, or why it is refused whatever it names. */
static enum lambda_refusal lambda_check(const struct lambda *lambda, const struct http_conn *c,
					enum lambda_target *target, struct lambda_name *name)
{
	enum lambda_refusal no =
		c->refuse ? lambda_refusal_of(c->refuse) : lambda_foreign(lambda, c);

	if (no)
		return no;
	*target = lambda_target_parse(name, (enum http_method)c->parser.method, c->target.data,
				      c->target.len);
	switch (*target) {
	case LAMBDA_ANOTHER_TARGET:
		return REFUSE_TARGET;
	case LAMBDA_NOT_OFFERED:
		return REFUSE_OPERATION;
	case LAMBDA_NO_METHOD:
		return REFUSE_METHOD;
	case LAMBDA_NO_NAME:
		return REFUSE_NAME;
	case LAMBDA_NO_QUALIFIER:
		return REFUSE_QUALIFIER;
	default:
		return REFUSE_NOT;
	}
}

static void lambda_refuse_function(struct http_conn *c, const char *name, const struct function *f)
{
	char text[256];

	if (f && (f->loading || f->stale)) {
		snprintf(text, sizeof(text), "The template of %s is being loaded: ask again", name);
		lambda_refuse(c, REFUSE_LOADING, text);
		return;
	}
	snprintf(text, sizeof(text), "Function not found: %s%s", name,
		 f ? " (its template could not be loaded)" : "");
	lambda_refuse(c, REFUSE_FUNCTION, text);
}

/* A request to invoke f, which is there. */
static void lambda_request_invoke(struct lambda *lambda, struct http_conn *c, struct function *f)
{
	struct http_text tenant;
	bool dry;
	enum lambda_refusal no = lambda_check_type(c, &dry);
	char head[128];

	if (!no)
		no = lambda_check_tenant(c, &tenant);
	/* What has a name of its own is promised to run once by that name. */
	if (!no && http_header(c, "x-amz-durable-execution-name"))
		no = REFUSE_EVENT;
	if (no) {
		lambda_refuse(c, no, NULL);
	} else if (dry) {
		snprintf(head, sizeof(head), "x-amzn-RequestId: %s\r\n", c->id);
		http_respond(c, 204, head, NULL, 0);
	} else {
		lambda_invoke(lambda, c, f, &tenant);
	}
}

void lambda_request(void *opaque, struct http_conn *c)
{
	struct lambda *lambda = opaque;
	struct function *f = NULL;
	struct lambda_name name = { 0 };
	enum lambda_target target;
	enum lambda_refusal no;

	lambda->requests++;
	lambda_new_id(lambda, c->id);
	no = lambda_check(lambda, c, &target, &name);
	if (no == REFUSE_TARGET && report_request(lambda, c))
		return;
	if (!no && target != LAMBDA_LIST)
		f = function_find(lambda->pool, name.name, name.name_len);
	if (no)
		lambda_refuse(c, no, NULL);
	else if (target == LAMBDA_LIST)
		lambda_list_functions(lambda, c);
	else if (!f || !f->version)
		lambda_refuse_function(c, name.name, f);
	else if (target == LAMBDA_INVOKE)
		lambda_request_invoke(lambda, c, f);
	else
		lambda_get_function(c, f, target == LAMBDA_GET_CONFIGURATION);
}

void lambda_gone(void *opaque, struct http_conn *c)
{
	struct lambda_call *call = c->opaque;

	(void)opaque;
	if (!call)
		return;
	pool_cancel(call->lambda->pool, &call->inv);
	call->inv.function->stats.results[RESULT_CANCELLED]++;
	lambda_log(call, NULL, 499, RESULT_CANCELLED, 0, monotonic_ns());
	free(call);
}

void lambda_init(struct lambda *lambda, struct http_server *http, struct pool *pool,
		 struct log *log)
{
	*lambda = (struct lambda){
		.http = http, .pool = pool, .log = log, .start_us = monotonic_us()
	};
}
