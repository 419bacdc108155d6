/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a running host (serve/cli/host_client.h).
 */
#include "serve/cli/host_client.h"

#include <errno.h>
#include <http_parser.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/io.h"
#include "serve/cli/input.h"
#include "serve/cli/output.h"
#include "serve/http/address.h"
#include "vmm.h"

#define CLIENT_BODY_MAX (16u << 20)

int host_connect(const char *host)
{
	char address[ADDRESS_TEXT_MAX];
	int fd;

	if (host)
		return address_connect(host);
	if (address_runtime(address) < 0)
		return failf(ENOENT, "no host is running that could be found: XDG_RUNTIME_DIR is "
				     "not set; name one with --host");
	fd = address_connect(address);
	return fd == -ECONNREFUSED || fd == -ENOENT ? failf(ENOENT, "%s", error_text()) : fd;
}

/* --- One call --- */

struct host_client {
	http_parser parser;
	struct host_reply *reply;
	size_t size;    /* of reply->body */
	char field[32]; /* of the header that is read, cut */
	bool in_value;
	bool whole;
	bool failed; /* too large, or out of memory */
};

static int host_client_field(http_parser *parser, const char *at, size_t len)
{
	struct host_client *c = parser->data;
	size_t have;

	if (c->in_value)
		c->field[0] = '\0';
	c->in_value = false;
	have = strlen(c->field);
	if (len > sizeof(c->field) - 1 - have)
		len = sizeof(c->field) - 1 - have;
	memcpy(c->field + have, at, len);
	c->field[have + len] = '\0';
	return 0;
}

static int host_client_value(http_parser *parser, const char *at, size_t len)
{
	struct host_client *c = parser->data;

	c->in_value = true;
	if (strcasecmp(c->field, "x-amz-function-error") == 0)
		c->reply->function_error = true;
	if (strcasecmp(c->field, "x-virga-tier") == 0)
		snprintf(c->reply->tier, sizeof(c->reply->tier), "%.*s", (int)len, at);
	return 0;
}

static int host_client_body(http_parser *parser, const char *at, size_t len)
{
	struct host_client *c = parser->data;
	struct host_reply *r = c->reply;

	if (r->len + len > CLIENT_BODY_MAX) {
		c->failed = true;
		return -1;
	}
	if (r->len + len + 1 > c->size) {
		size_t size = 2 * (r->len + len) + 4096;
		char *body = realloc(r->body, size);

		if (!body) {
			c->failed = true;
			return -1;
		}
		r->body = body;
		c->size = size;
	}
	memcpy(r->body + r->len, at, len);
	r->len += len;
	r->body[r->len] = '\0';
	return 0;
}

static int host_client_complete(http_parser *parser)
{
	struct host_client *c = parser->data;

	c->whole = true;
	return 0;
}

static int host_client_send(int fd, const char *method, const char *target, const void *body,
			    size_t len)
{
	char head[1024];
	int n = snprintf(head, sizeof(head),
			 "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n"
			 "Connection: close\r\n\r\n",
			 method, target, len);
	int ret;

	if (n < 0 || (size_t)n >= sizeof(head))
		return failf(E2BIG, "the name is too long");
	ret = io_write_all(fd, head, (size_t)n);
	if (ret == 0)
		ret = io_write_all(fd, body, len);
	/* A host that refuses early may have answered all the same. */
	return ret < 0 && ret != -EPIPE && ret != -ECONNRESET
		       ? failf(-ret, "the host does not take the request: %s", strerror(-ret))
		       : 0;
}

static int host_client_receive(int fd, struct host_client *c)
{
	const http_parser_settings settings = {
		.on_header_field = host_client_field,
		.on_header_value = host_client_value,
		.on_body = host_client_body,
		.on_message_complete = host_client_complete,
	};
	char bytes[65536];

	while (!c->whole) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return failf(ETIMEDOUT, "the host did not answer in time");
		if (n < 0)
			return failf(errno, "the host's answer cannot be read: %s",
				     strerror(errno));
		http_parser_execute(&c->parser, &settings, bytes, (size_t)n);
		if (c->failed || HTTP_PARSER_ERRNO(&c->parser) != HPE_OK)
			return failf(EPROTO, "what answers there is no function host");
		if (n == 0 && !c->whole)
			return failf(ECONNRESET, "the host hung up before its answer was whole");
	}
	return 0;
}

int host_call(int fd, const char *method, const char *target, const void *body, size_t len,
	      uint32_t timeout_ms, struct host_reply *reply)
{
	const struct timeval limit = { .tv_sec = timeout_ms / 1000,
				       .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000 };
	struct host_client c = { .reply = reply };
	int ret;

	*reply = (struct host_reply){ 0 };
	http_parser_init(&c.parser, HTTP_RESPONSE);
	c.parser.data = &c;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	ret = host_client_send(fd, method, target, body, len);
	if (ret == 0)
		ret = host_client_receive(fd, &c);
	reply->status = c.parser.status_code;
	return ret;
}

void host_reply_fini(struct host_reply *reply)
{
	free(reply->body);
	*reply = (struct host_reply){ 0 };
}

/* --- virga invoke NAME --- */

/* What an error's body says, or the body itself. */
static void host_client_say_error(const struct host_reply *reply, const char *key)
{
	json_t *object = json_loadb(reply->body ? reply->body : "", reply->len, 0, NULL);
	const char *text = json_string_value(json_object_get(object, key));

	notef("invoke: %s", text ? text : reply->len ? reply->body : "the host gives no reason");
	json_decref(object);
}

static int host_client_result(const struct host_reply *reply)
{
	json_t *object;
	const char *type;
	bool late;

	if (reply->status != 200) {
		host_client_say_error(reply, "Message");
		return STATUS_VIRGA;
	}
	if (!reply->function_error) {
		struct output output = { .data = reply->body, .len = reply->len };

		return output_write(&output) < 0 ? (notef("invoke: %s", error_text()), STATUS_VIRGA)
						 : 0;
	}
	host_client_say_error(reply, "errorMessage");
	object = json_loadb(reply->body ? reply->body : "", reply->len, 0, NULL);
	type = json_string_value(json_object_get(object, "errorType"));
	late = type && strcmp(type, "Sandbox.Timedout") == 0;
	json_decref(object);
	return late ? STATUS_TIMEOUT : STATUS_ERROR;
}

int host_invoke(int fd, const struct options *options)
{
	uint64_t start_us = monotonic_us();
	struct host_reply reply = { 0 };
	char target[512], *data = NULL;
	size_t len = 0;
	int status = STATUS_VIRGA;
	int ret = input_read_data(options->data, &data, &len);

	snprintf(target, sizeof(target), "/2015-03-31/functions/%.256s/invocations",
		 options->args[0]);
	if (ret == 0)
		ret = host_call(fd, "POST", target, data, len, options->timeout_ms, &reply);
	if (ret == 0)
		status = host_client_result(&reply);
	else
		notef("invoke: %s", error_text());
	if (ret == -ETIMEDOUT)
		status = STATUS_TIMEOUT;
	if (ret == 0 && options->timing)
		fprintf(stderr, "tier %s\nanswer %llu\n", reply.tier,
			(unsigned long long)(monotonic_us() - start_us));
	host_reply_fini(&reply);
	free(data);
	return status;
}
