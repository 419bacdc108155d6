/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of an invocation by HTTP (serve/host/lambda_call.h): an answer, a line in the log, a count. The
 * interface is that of AWS Lambda's Invoke; names of what goes wrong in the guest are those of its
 * runtimes.
 */
#include "serve/host/lambda_call.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arch/base/base64.h"
#include "arch/base/clock.h"

#define LAMBDA_TEXT_MAX 4096u /* bytes of a sentence in an answer */

/* --- The log line --- */

static int64_t lambda_since_us(uint64_t from_ns, uint64_t ns)
{
	return ns ? (int64_t)(ns - from_ns) / 1000 : -1;
}

/* Stages as microseconds from the request's first byte, those that there were. */
static size_t lambda_log_stages(char *text, size_t size, const struct lambda_call *call,
				const struct answer_head *head, uint64_t done_ns)
{
	static const char *const names[SHELL_STAGES] = {
		"received", "mapped", "populated", "loaded", "entered", "answered",
	};
	size_t at = 0;

	if (call->inv.sent_ns)
		at += (size_t)snprintf(text, size, "\"sent\":%" PRId64 ",",
				       lambda_since_us(call->first_ns, call->inv.sent_ns));
	for (unsigned i = 0; head && i < SHELL_STAGES; i++)
		if (head->stages_ns[i])
			at += (size_t)snprintf(text + at, size - at, "\"%s\":%" PRId64 ",",
					       names[i],
					       lambda_since_us(call->first_ns, head->stages_ns[i]));
	return at + (size_t)snprintf(text + at, size - at, "\"done\":%" PRId64,
				     lambda_since_us(call->first_ns, done_ns));
}

void lambda_log(const struct lambda_call *call, const struct answer_head *head, unsigned status,
		enum invocation_result result, size_t response_len, uint64_t done_ns)
{
	const struct function *f = call->inv.function;
	char line[1024], stages[512], when[40], reset[40] = "";
	struct timespec now;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	lambda_log_stages(stages, sizeof(stages), call, head, done_ns);
	if (head && head->reset_us)
		snprintf(reset, sizeof(reset), "\"reset_us\":%u,", head->reset_us);
	n = snprintf(line, sizeof(line),
		     "{\"time\":\"%s.%03ldZ\",\"request\":\"%s\",\"function\":\"%s\","
		     "\"version\":\"%s\",\"tier\":\"%s\",\"outcome\":\"%s\",\"status\":%u,"
		     "\"request_bytes\":%zu,\"response_bytes\":%zu,%s\"us\":{%s}}\n",
		     when, now.tv_nsec / 1000000, call->id, f->config.name, call->inv.version,
		     call->inv.sent_ns ? tier_name(call->inv.tier) : "none", result_name(result),
		     status, call->inv.payload_len, response_len, reset, stages);
	if (n > 0 && (size_t)n < sizeof(line))
		log_add(call->lambda->log, line, (size_t)n);
}

/* --- Errors --- */

/* A JSON text of bytes that may be anything; the caller frees. NULL: out of memory. */
static json_t *lambda_text(const char *data, size_t len)
{
	char clean[LAMBDA_TEXT_MAX];
	json_t *text;

	if (len > sizeof(clean))
		len = sizeof(clean);
	text = json_stringn(data, len);
	if (text)
		return text;
	for (size_t i = 0; i < len; i++)
		clean[i] = data[i] & 0x80 || !data[i] ? '?' : data[i];
	return json_stringn(clean, len);
}

static const struct {
	unsigned status;
	const char *type;
	const char *message; /* NULL: it is always another */
	const char *reason;  /* the interface's word for why, where it has one */
} lambda_refusals[] = {
	[REFUSE_TOO_LARGE] = { 413, "RequestTooLargeException",
			       "the request's payload is larger than 6291456 bytes" },
	[REFUSE_HEAD_TOO_LARGE] = { 431, "RequestHeaderFieldsTooLargeException",
				    "the request line and headers are larger than 16 KiB or more "
				    "than 64" },
	[REFUSE_TOO_SLOW] = { 408, "RequestTimeoutException", "the request did not come in time" },
	[REFUSE_NO_MEMORY] = { 503, "ServiceUnavailableException",
			       "no memory for the request's payload" },
	[REFUSE_NOT_OFFERED] = { 501, "NotImplementedException",
				 "CONNECT is not offered, nor a transfer coding but chunked" },
	[REFUSE_HTTP_VERSION] = { 505, "HTTPVersionNotSupportedException",
				  "HTTP/1.1 is spoken here" },
	[REFUSE_MALFORMED] = { 400, "BadRequestException",
			       "this is no HTTP/1.1 request with one Host" },
	[REFUSE_ORIGIN] = { 403, "AccessDeniedException",
			    "a page of another machine may not use this host" },
	[REFUSE_HOST] = { 403, "AccessDeniedException",
			  "a Host other than 127.0.0.1, [::1], localhost and those of the "
			  "configuration's key 'hosts' is not served here" },
	[REFUSE_TARGET] = { 404, "ResourceNotFoundException",
			    "there is nothing here; POST "
			    "/2015-03-31/functions/NAME/invocations invokes, GET / shows how the "
			    "host is" },
	[REFUSE_OPERATION] = { 501, "NotImplementedException",
			       "this operation is not offered here: Invoke, GetFunction, "
			       "GetFunctionConfiguration and ListFunctions are" },
	[REFUSE_METHOD] = { 405, "MethodNotAllowedException", "a function is invoked by POST" },
	[REFUSE_NAME] = { 400, "InvalidParameterValueException",
			  "no name of a function: NAME (letters, digits, - and _, 64 at most), "
			  "NAME:QUALIFIER or an ARN" },
	[REFUSE_QUALIFIER] = { 400, "InvalidParameterValueException", "the qualifier is too long" },
	[REFUSE_TENANT] = { 400, "InvalidParameterValueException",
			    "X-Amz-Tenant-Id: one of 1 to 256 letters, digits, blanks and any of "
			    "._:/=+-@ is allowed" },
	[REFUSE_FUNCTION] = { 404, "ResourceNotFoundException", NULL },
	[REFUSE_LOADING] = { 503, "ResourceNotReadyException", NULL },
	[REFUSE_EVENT] = { 501, "NotImplementedException",
			   "type Event and DurableExecutionName are not offered: they would "
			   "have to outlive this host, which keeps nothing; use "
			   "RequestResponse" },
	[REFUSE_TYPE] = { 400, "InvalidParameterValueException",
			  "X-Amz-Invocation-Type: RequestResponse and DryRun are allowed" },
	[REFUSE_RATE] = { 429, "TooManyRequestsException", NULL,
			  "ReservedFunctionConcurrentInvocationLimitExceeded" },
	[REFUSE_WAITED] = { 429, "TooManyRequestsException",
			    "the request waited for a machine until its time was over",
			    "ConcurrentInvocationLimitExceeded" },
	[REFUSE_PAYLOAD] = { 400, "InvalidRequestContentException",
			     "the request's payload is not JSON, and this function takes nothing "
			     "else" },
	[REFUSE_HOST_FAILED] = { 500, "ServiceException", NULL },
};

enum lambda_refusal lambda_refusal_of(unsigned status)
{
	enum lambda_refusal i = REFUSE_TOO_LARGE;

	while (i < REFUSE_MALFORMED && lambda_refusals[i].status != status)
		i++;
	return i;
}

unsigned lambda_refuse(struct http_conn *c, enum lambda_refusal refusal, const char *message)
{
	const unsigned status = lambda_refusals[refusal].status;
	json_t *body = json_object();
	char head[256], *text;

	if (!message)
		message = lambda_refusals[refusal].message;
	json_object_set_new(body, "Type", json_string(status < 500 ? "User" : "Service"));
	json_object_set_new(body, "Message", lambda_text(message, strlen(message)));
	if (lambda_refusals[refusal].reason)
		json_object_set_new(body, "Reason", json_string(lambda_refusals[refusal].reason));
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	/* No Retry-After: clients that obey it were refused together and would come back together. */
	snprintf(head, sizeof(head),
		 "Content-Type: application/json\r\nx-amzn-ErrorType: %s\r\n"
		 "x-amzn-RequestId: %s\r\n%s",
		 lambda_refusals[refusal].type, c->id, status == 405 ? "Allow: POST\r\n" : "");
	http_respond(c, status, head, text ? text : "{}", text ? strlen(text) : 2);
	free(text);
	return status;
}

/* What went wrong inside the guest, as the names of AWS Lambda's runtimes have it. */
static const char *lambda_error_type(const struct invocation_end *end)
{
	if (end->timed_out)
		return "Sandbox.Timedout";
	switch (end->outcome) {
	case OUTCOME_ERROR:
		return "Function.Error";
	case OUTCOME_ANSWER_JSON:
		return "Runtime.MalformedResponse";
	case OUTCOME_TOO_LARGE:
		return "Function.ResponseSizeTooLarge";
	case OUTCOME_BROKEN:
		return "Runtime.BrokenChannel";
	case OUTCOME_ENDED:
		return "Runtime.ExitError";
	case OUTCOME_CRASHED:
		return "Runtime.Crashed";
	default:
		return "Function.Error";
	}
}

/* {"errorType", "errorMessage"}; the caller frees. */
static char *lambda_error_body(const struct lambda_call *call, const struct invocation_end *end)
{
	json_t *body = json_object();
	char late[128], *text;

	if (end->timed_out) {
		snprintf(late, sizeof(late),
			 "RequestId: %s Error: Task timed out after %.2f seconds", call->id,
			 call->inv.function->config.timeout_ms / 1000.0);
		json_object_set_new(body, "errorMessage", json_string(late));
	} else {
		json_object_set_new(body, "errorMessage", lambda_text(end->data, end->len));
	}
	json_object_set_new(body, "errorType", json_string(lambda_error_type(end)));
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	return text;
}

/* --- The end of an invocation --- */

static enum invocation_result lambda_result(const struct invocation_end *end)
{
	if (end->throttled)
		return RESULT_THROTTLED;
	if (end->timed_out)
		return RESULT_TIMEOUT;
	switch (end->outcome) {
	case OUTCOME_RESPONSE:
		return RESULT_OK;
	case OUTCOME_NOT_JSON:
		return RESULT_BAD_REQUEST;
	case OUTCOME_HOST:
		return RESULT_HOST_ERROR;
	default:
		return RESULT_FUNCTION_ERROR;
	}
}

/* The headers of a 200; the log's end is at most 4 KiB, 5.4 as base64. */
static void lambda_head(const struct lambda_call *call, const struct invocation_end *end,
			bool error, char *head, size_t size)
{
	char *log = call->tail ? base64_encode(end->log ? end->log : "", end->log_len) : NULL;

	snprintf(head, size,
		 "Content-Type: %s\r\nx-amzn-RequestId: %s\r\nX-Amz-Executed-Version: %s\r\n"
		 "X-Virga-Tier: %s\r\n%s%s%s%s",
		 error || call->inv.function->config.json ? "application/json"
							  : "application/octet-stream",
		 call->id, call->inv.version, tier_name(call->inv.tier),
		 error ? "X-Amz-Function-Error: Unhandled\r\n" : "",
		 log ? "X-Amz-Log-Result: " : "", log ? log : "", log ? "\r\n" : "");
	free(log);
}

static void lambda_answer(struct lambda_call *call, const struct invocation_end *end,
			  enum invocation_result result, unsigned *status, size_t *len)
{
	struct http_conn *c = call->conn;
	char head[HTTP_HEAD_MAX / 2], text[LAMBDA_TEXT_MAX], *body;

	*status = 200;
	*len = end->len;
	switch (result) {
	case RESULT_OK:
		lambda_head(call, end, false, head, sizeof(head));
		http_respond(c, 200, head, end->data, end->len);
		break;
	case RESULT_FUNCTION_ERROR:
	case RESULT_TIMEOUT:
		body = lambda_error_body(call, end);
		*len = body ? strlen(body) : 0;
		lambda_head(call, end, true, head, sizeof(head));
		http_respond(c, 200, head, body, *len);
		free(body);
		break;
	case RESULT_THROTTLED:
		*status = lambda_refuse(c, REFUSE_WAITED, NULL);
		break;
	case RESULT_BAD_REQUEST:
		*status = lambda_refuse(c, REFUSE_PAYLOAD, NULL);
		break;
	default:
		snprintf(text, sizeof(text), "%.*s", (int)(end->len < 1000 ? end->len : 1000),
			 (const char *)end->data);
		*status = lambda_refuse(c, REFUSE_HOST_FAILED, text);
	}
}

void lambda_done(struct invocation *inv, const struct invocation_end *end)
{
	struct lambda_call *call = inv->opaque;
	struct function_stats *stats = &inv->function->stats;
	enum invocation_result result = lambda_result(end);
	struct answer_head head;
	uint64_t done_ns;
	unsigned status;
	size_t len;

	/* Answering may bring the connection's next request, which goes through the same buffers. */
	if (end->head)
		head = *end->head;
	lambda_answer(call, end, result, &status, &len);
	done_ns = monotonic_ns();
	stats->results[result]++;
	if (result == RESULT_OK)
		histogram_add(&stats->latency[inv->tier], (done_ns - call->first_ns) / 1000);
	lambda_log(call, end->head ? &head : NULL, status, result, len, done_ns);
	free(call);
}
