/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between serve/http.c, serve/http_request.c (a connection's bytes as a request) and
 * serve/http_listen.c (new connections).
 */
#ifndef VIRGA_SERVE_HTTP_REQUEST_H
#define VIRGA_SERVE_HTTP_REQUEST_H

#include "serve/http.h"

/* Forgets the request before. */
void http_request_begin(struct http_conn *c);

/*
 * Feeds the parser. How many bytes it took: all, or those up to the end of the request (c->whole)
 * or to what is wrong with it (c->refuse). Bytes in c->in stay where they are, others are copied.
 */
size_t http_request_parse(struct http_conn *c, const char *data, size_t len);

/* In http.c: handles what lies in c->in. */
void http_pump(struct http_conn *c);

/* In http.c: room for so many bytes more, of c; the oldest that holds some goes for it. */
bool http_make_memory(struct http_conn *c, size_t bytes);

/*
 * In http.c: room for one connection more; the one that has idled longest goes for it, else the one
 * whose request has been incomplete for longest. And that one.
 */
bool http_make_room(struct http_server *s);
void http_accept_one(struct http_server *s, int fd);

/* In http_listen.c: accepts those who wait for it already. */
void http_accept_rest(struct http_server *s);
void http_stop_listening(struct http_server *s);

#endif
