/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's HTTP/1.1 server: connections, their limits and time-outs, one request at a
 * time on each. Parsing is http-parser's, of what is framed right (serve/http/framing.h); what a
 * request means is its handler's business (serve/host/lambda.h). One thread; no connection, slow,
 * silent or broken, costs another anything.
 */
#ifndef VIRGA_SERVE_HTTP_HTTP_H
#define VIRGA_SERVE_HTTP_HTTP_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/listener.h"
#include "arch/base/loop.h"
#include "arch/base/timers.h"
#include "serve/http/framing.h"

#define HTTP_CONNECTIONS_MAX 1024u
#define HTTP_IN_MAX          16384u /* bytes of request line and headers */
#define HTTP_HEADERS_MAX     64u
#define HTTP_BODY_MAX        (6u << 20)
#define HTTP_HELD_MAX        (256u << 20) /* bytes of bodies and answers that are held at once */
#define HTTP_HEAD_MAX        16384u       /* bytes of status line and headers of an answer */
#define HTTP_IDLE_MS         120000u /* a connection without a request; clients keep theirs up to 90 s */
#define HTTP_HEAD_MS         10000u /* from a request's first byte to the end of its headers, */
#define HTTP_BODY_MS         60000u /* to the end of its body, */
#define HTTP_WRITE_MS        60000u /* of an answer, until the client has taken it */
#define HTTP_DROP_MAX        (64u << 20) /* bytes of a body that is too large, read to be polite */
#define HTTP_SCRATCH         65536u
#define HTTP_ID_LEN          36u /* bytes of a request's number: a UUID's */

struct http_server;
struct http_conn;

struct http_handler {
	/*
	 * A request is whole, or c->refuse says that it cannot be. Ends, now or later, with one call
	 * of http_respond(); the server calls nothing else for this connection meanwhile but gone().
	 */
	void (*request)(void *opaque, struct http_conn *c);
	/* The client hung up before it was answered; c is freed after the call. */
	void (*gone)(void *opaque, struct http_conn *c);
	void *opaque;
};

/* Bytes in the connection's own buffers. */
struct http_text {
	const char *data;
	size_t len;
};

struct http_header {
	struct http_text name;
	struct http_text value;
};

enum http_state { HTTP_READING, HTTP_HANDLING, HTTP_WRITING, HTTP_DEAD };

struct http_conn {
	/* For handlers. */
	http_parser parser; /* method, version */
	struct http_text target;
	struct http_text body;
	unsigned refuse;          /* 0, or the status that the request is to be refused with */
	uint64_t first_ns;        /* CLOCK_MONOTONIC when its first bytes were there */
	void *opaque;             /* the handler's own, */
	char id[HTTP_ID_LEN + 1]; /* and its number for the request */

	/* The server's. */
	struct http_server *server;
	struct http_conn *next, *previous; /* all of them, oldest use first */
	int fd;                            /* owned */
	uint32_t events;                   /* that are waited for */
	struct loop_watch *watch;
	struct timer timer;
	enum http_state state;
	bool pumping;   /* http_pump() is on the stack */
	bool due;       /* the timer is for that */
	bool tcp;       /* it came by an IP address */
	bool close;     /* after the answer */
	bool head_done; /* the headers are whole */
	bool whole;     /* the request is */
	bool in_value;  /* the parser's last word was of a header's value */
	bool expects;   /* 100-continue */
	bool too_large; /* the body is read and dropped, the request then refused */
	unsigned header_count;
	struct http_header headers[HTTP_HEADERS_MAX];
	struct framing framing;
	size_t in_len; /* bytes in `in`; from in_at on they are not parsed yet */
	size_t in_at;
	size_t dropped; /* bytes of a body that is too large */
	char *heap;     /* owned: a body that does not lie in `in` in one piece */
	size_t heap_size;
	char *out; /* owned: what the client has not taken of an answer */
	size_t out_len;
	size_t out_at;
	char in[HTTP_IN_MAX];
};

struct http_listener;

struct http_server {
	struct loop *loop;
	struct timers *timers;
	const struct http_handler *handler;
	struct http_conn *first, *last;
	unsigned count;
	size_t held_bytes; /* of all connections: bodies, and what is left of answers */
	bool draining;     /* every answer closes its connection */
	bool over;         /* nobody is answered any more */
	uint64_t accepted; /* connections; */
	uint64_t turned_away;
	uint64_t broken; /* those that ended in the middle of something */
	struct http_listener *listeners;
	struct listener_spare spare;
	int64_t date_s; /* that `date` is of */
	char date[48];
	char scratch[HTTP_SCRATCH];
};

/* s is zeroed. timers has room for HTTP_CONNECTIONS_MAX more. 0 or -errno with a sentence. */
int http_init(struct http_server *s, struct loop *loop, struct timers *timers,
	      const struct http_handler *handler);

/* Closes all connections without a word, those that are handled included (gone() is called). */
void http_fini(struct http_server *s);

/* Serves a listening, non-blocking stream socket; fd stays the caller's. 0 or -errno. */
int http_listen(struct http_server *s, int fd);

/* Accepts who has come and nobody any more, closes those that have sent nothing, lets the rest finish. */
void http_drain(struct http_server *s);

/* The value of the header of that name (any case), or NULL. */
const struct http_text *http_header(const struct http_conn *c, const char *name);

/* Whether a text is this word, in any case. */
bool http_is(const struct http_text *text, const char *word);

/*
 * Answers. head: header lines, each with its \r\n, without Date, Content-Length, Connection and the
 * empty line. data is copied as far as the client does not take it now. c may be gone afterwards.
 */
void http_respond(struct http_conn *c, unsigned status, const char *head, const void *data,
		  size_t len);

#endif
