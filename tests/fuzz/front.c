/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole front: requests over HTTP to Lambda's API and the pages beside it, functions of a pool whose
 * shells answer, die or are not there, clients that hang up. Below it lies the target http, beside it pool.
 */
/* wrap: monotonic_us fork kill waitpid socketpair sealed_open notef log_add log_dropped */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/host/lambda.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/http/http_bed.h"
#include "tests/unit/serve/pool/pool_bed.h"

#define CLIENTS_MAX 3u
#define SHELLS      4u

int __real_socketpair(int domain, int type, int protocol, int pair[2]);

void __wrap_notef(const char *fmt, ...);
void __wrap_notef(const char *fmt, ...)
{
	(void)fmt;
}

/* One line, for whoever reads lines. */
void __wrap_log_add(struct log *log, const char *text, size_t len);
void __wrap_log_add(struct log *log, const char *text, size_t len)
{
	(void)log;
	must(len > 0 && memchr(text, '\n', len) == text + len - 1);
}

uint64_t __wrap_log_dropped(struct log *log);
uint64_t __wrap_log_dropped(struct log *log)
{
	(void)log;
	return 0;
}

static struct {
	struct bed *http;
	struct pool_bed *pool;
	struct lambda lambda;
	struct bytes in;
	struct client clients[CLIENTS_MAX];
	bool open[CLIENTS_MAX];
} front;

static const char *const pieces[] = {
	"POST /2015-03-31/functions/f0/invocations HTTP/1.1\r\nHost: h\r\n",
	"POST /2015-03-31/functions/f1/invocations HTTP/1.1\r\nHost: h\r\n",
	"GET /2015-03-31/functions/f0 HTTP/1.1\r\nHost: h\r\n",
	"GET /2015-03-31/functions/f1/configuration HTTP/1.1\r\nHost: h\r\n",
	"GET /2015-03-31/functions/ HTTP/1.1\r\nHost: h\r\n",
	"Content-Length: 2\r\n\r\n{}",
	"Content-Length: 5\r\n\r\n[1,2]",
	"\r\n",
	"X-Amz-Log-Type: Tail\r\n",
	"X-Amz-Invocation-Type: ",
	"Event\r\n",
	"DryRun\r\n",
	"X-Amz-Tenant-Id: ",
	"a\r\n",
	"Origin: http://localhost:80\r\n",
	"Origin: null\r\n",
	"GET /metrics HTTP/1.1\r\nHost: h\r\n",
	"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
	"GET /status HTTP/1.1\r\nHost: h\r\n",
	"GET /health HTTP/1.1\r\nHost: h\r\n",
	"Accept: text/html\r\n",
	"Expect: 100-continue\r\n",
	"Transfer-Encoding: chunked\r\n\r\n",
	"2\r\n{}\r\n0\r\n\r\n",
	"X-Amz-Client-Context: e30=\r\n",
	"POST /2015-03-31/functions/arn:aws:lambda:x:1:function:f0:1/invocations?Qualifier=",
	" HTTP/1.1\r\nHost: h\r\n",
	"HEAD / HTTP/1.0\r\n",
	"Connection: close\r\n",
	"DELETE /2015-03-31/functions/f0 HTTP/1.1\r\nHost: h\r\n",
	"Host: evil:80\r\n",
	"Content-Length: ",
};

static void make_function(unsigned i, uint8_t how)
{
	struct function *f = pool_bed_function(front.pool, i ? "f1" : "f0", !(how & 64));

	f->config.policy = (enum policy)(how % 3);
	f->config.json = how & 4;
	f->config.concurrency = 1 + (how >> 3 & 3);
	f->config.queue = how >> 5 & 1;
	f->config.timeout_ms = 100;
}

/* pool_bed.c makes of socketpair() what the spawner's is: this one is of two ends for us. */
static struct client client_of_pair(void)
{
	struct client c = { .bed = front.http };
	int pair[2];

	must(__real_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	http_accept_one(front.http->server, pair[1]);
	c.fd = pair[0];
	return c;
}

static void shells_act(uint8_t how)
{
	for (unsigned i = 0; i < 4 * SHELLS; i++) {
		struct fake_shell *s = &front.pool->shells[i];

		if (s->state == FAKE_MADE || s->state == FAKE_TURNS)
			fake_ready(s, how == 0xff ? "it cannot" : NULL);
		else if (s->state == FAKE_RUNS && how & 1)
			fake_answer(s, how & 2 ? (how >> 2) % OUTCOME_COUNT : OUTCOME_RESPONSE,
				    how & 64 ? "{\"a\": \"\\u0000\xff\"}" : "{}");
		else if (s->state == FAKE_RUNS && how == 0x80)
			fake_dies(front.pool, s, 11);
		else
			continue;
		if (how & 128)
			break;
	}
	pool_bed_step(front.pool);
}

static void act(void)
{
	uint8_t what = bytes_u8(&front.in), arg = bytes_u8(&front.in);
	unsigned i = (what >> 4) % CLIENTS_MAX;
	struct client *c = &front.clients[i];
	const uint8_t *data;
	size_t len;

	if (!front.open[i]) {
		*c = client_of_pair();
		front.open[i] = true;
	}
	switch (what & 15) {
	case 0:
		client_close(c);
		front.open[i] = false;
		break;
	case 1:
		bed_step(front.http);
		pool_bed_advance(front.pool, arg * 10ull * MS);
		bed_step(front.http);
		break;
	case 2:
	case 3:
	case 4:
		shells_act(arg);
		break;
	case 5:
	case 6:
		data = bytes_take(&front.in, arg, &len);
		client_send(c, data, len);
		break;
	case 7:
		client_receive(c);
		break;
	default:
		client_send(c, pieces[arg & 31], strlen(pieces[arg & 31]));
	}
	pool_bed_step(front.pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	memset(front.open, 0, sizeof(front.open));
	front.in = (struct bytes){ data, size };
	front.http = bed_open();
	front.clients[0] = client_of_pair(); /* its loop has what it needs from here on */
	client_close(&front.clients[0]);
	front.pool = pool_bed_open(SHELLS, 1);
	front.pool->manual = true;
	make_function(0, bytes_u8(&front.in));
	make_function(1, bytes_u8(&front.in));
	lambda_init(&front.lambda, front.http->server, &front.pool->pool, NULL);
	front.http->handler = (struct http_handler){ .request = lambda_request,
						     .gone = lambda_gone,
						     .opaque = &front.lambda };
	while (front.in.left)
		act();
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (front.open[i])
			client_close(&front.clients[i]);
	must(front.http->server->count == 0);
	must(front.pool->pool.waiting == 0);
	pool_bed_close(front.pool);
	bed_close(front.http);
	return 0;
}
