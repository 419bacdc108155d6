/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP server share with each other and with nobody else, the lowest first:
 * serve/http/framing.c, serve/http/conn.c, serve/http/request.c (a connection's bytes as a request),
 * serve/http/http.c (reading and answering), serve/http/server.c (new connections, the server's life). One thread.
 */
#ifndef VIRGA_SERVE_HTTP_CONN_H
#define VIRGA_SERVE_HTTP_CONN_H

#include "serve/http/http.h"

/* --- conn.c --- */

/* The list of connections: out of it, and in at its end as the one used last. */
void http_unlink(struct http_conn *c);
void http_link(struct http_conn *c);

/* Whether it has no request, not even the first byte of one. */
bool http_idle(const struct http_conn *c);

/* Frees a closed connection that nobody on the stack uses. */
void http_free(struct http_conn *c);

/* Closes it, gone() is called where it was handled; the memory goes when nobody uses it. */
void http_close(struct http_conn *c);

/*
 * Room for so many bytes more, of c. When there is too much in memory the oldest that holds some of it,
 * because its client is slow to say or to take something, has to go. False: there is none.
 */
bool http_make_memory(struct http_conn *c, size_t bytes);

/*
 * Room for one connection more; the one that has idled longest goes for it, else the one whose
 * request has been incomplete for longest. False: there is none.
 */
bool http_make_room(struct http_server *s);

/* Its timer expires after so long. */
void http_wait(struct http_conn *c, unsigned ms);

/* The epoll events that it waits for. */
void http_expect_events(struct http_conn *c, uint32_t events);

/* --- request.c --- */

/* Forgets the request before. */
void http_request_begin(struct http_conn *c);

/*
 * Feeds the parser. How many bytes it took: all, or those up to the end of the request (c->whole)
 * or to what is wrong with it (c->refuse). Bytes in c->in stay where they are, others are copied.
 */
size_t http_request_parse(struct http_conn *c, const char *data, size_t len);

/* --- http.c --- */

/* Takes a new connection's socket, which is owned from here on. */
void http_accept_one(struct http_server *s, int fd);

#endif
