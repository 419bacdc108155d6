/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's HTTP server on its real loop: up to three connections whose bytes come in pieces, pauses
 * that run into its time-outs, answers at once or later, clients that go away. Nothing may be left.
 */
/* wrap: monotonic_us */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/serve/http/http_bed.h"

#define CLIENTS_MAX 3u

struct front {
	struct bed *bed;
	struct bytes in;
	struct client clients[CLIENTS_MAX];
	bool open[CLIENTS_MAX];
};

/* What requests are made of, so that the fuzzer need not find it letter by letter. */
static const char *const pieces[] = {
	"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
	"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\n",
	"Host: h\r\n",
	"\r\n",
	"Content-Length: 5\r\n\r\nabcde",
	"Content-Length: ",
	"Transfer-Encoding: chunked\r\n\r\n",
	"5\r\nabcde\r\n",
	"0\r\n\r\n",
	"Expect: 100-continue\r\n",
	"Connection: close\r\n",
	"X-A: b\r\n",
	" HTTP/1.0\r\n",
	"OPTIONS http://h/x HTTP/1.1\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"0\r\nA: b\r\n\r\n",
	"Content-Length: 40000\r\n\r\n",
	"Content-Length: 7000000\r\n\r\n",
	"Content-Length: 90000000\r\n\r\n",
	"7000\r\n",
	"X-A: b\r\n c\r\n",
	"CONNECT h:1 HTTP/1.1\r\n",
};

#define PIECES (sizeof(pieces) / sizeof(pieces[0]))

static void say(struct client *c, const void *data, size_t len)
{
	client_send(c, data, len);
	if (c->in_len > 1u << 20)
		client_forget(c);
}

static void say_many(struct client *c, uint8_t letter, size_t len)
{
	char *text = malloc(len + 1);

	must(text != NULL);
	memset(text, letter, len);
	say(c, text, len);
	free(text);
}

static void act(struct front *f)
{
	uint8_t what = bytes_u8(&f->in), arg = bytes_u8(&f->in);
	unsigned i = (what >> 4) % CLIENTS_MAX;
	struct client *c = &f->clients[i];
	const uint8_t *data;
	size_t len;

	if (!f->open[i]) {
		*c = client_open(f->bed);
		f->open[i] = true;
	}
	switch (what & 15) {
	case 0:
		client_close(c);
		f->open[i] = false;
		break;
	case 1:
		bed_advance(f->bed, arg * 1000ull);
		break;
	case 2:
		f->bed->later = arg & 1;
		bed_answer(f->bed);
		break;
	case 3:
		f->bed->answer_len = (size_t)arg << (arg & 7);
		break;
	case 4:
		c->silent = arg & 1;
		break;
	case 5:
		shutdown(c->fd, SHUT_WR);
		break;
	case 6:
		say_many(c, arg, (size_t)bytes_u8(&f->in) << 7);
		break;
	case 7:
	case 8:
		data = bytes_take(&f->in, arg, &len);
		say(c, data, len);
		break;
	case 9:
		client_receive(c);
		break;
	default:
		say(c, pieces[arg % PIECES], strlen(pieces[arg % PIECES]));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct front f = { .in = { data, size } };

	f.bed = bed_open();
	while (f.in.left)
		act(&f);
	bed_answer(f.bed);
	f.bed->later = false;
	bed_answer(f.bed);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (f.open[i])
			client_close(&f.clients[i]);
	bed_answer(f.bed);
	bed_close(f.bed);
	return 0;
}
