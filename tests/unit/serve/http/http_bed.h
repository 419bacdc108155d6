/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP server on its real loop and real sockets, with clients in the same thread. Time is the
 * test's: the program that includes it wraps monotonic_us.
 */
#ifndef VIRGA_TESTS_UNIT_HTTP_BED_H
#define VIRGA_TESTS_UNIT_HTTP_BED_H

#include "serve/http/conn.h"
#include "serve/http/http.h"

#define BED_LATER_MAX 2048u

struct bed {
	struct loop loop;
	pthread_mutex_t lock;
	struct timers timers;
	struct http_server *server;
	struct http_handler handler;
	unsigned descriptors; /* before anything was opened */

	/* How requests are answered: at once, or when bed_answer() is called. */
	bool later;
	bool chain; /* later, and each request has the one answered that has waited longest */
	size_t answer_len; /* of that many bytes; 0: with what came */
	struct http_conn *waiting[BED_LATER_MAX];
	unsigned waiting_count;

	/* What there was. */
	unsigned requests;
	unsigned refused;
	unsigned gone;
	uintptr_t deepest; /* stack address of a handler of `chain` */
	uintptr_t highest;
};

/* A client's end. */
struct client {
	struct bed *bed;
	int fd;
	char *in; /* owned: all that came */
	size_t in_len;
	size_t in_size;
	bool ended;  /* the server has closed */
	bool reset;  /* with bytes that it had not read */
	bool silent; /* does not read while it sends */
};

struct bed *bed_open(void);

/* Ends the server; fails when a connection, a byte of a body or a descriptor is left. */
void bed_close(struct bed *bed);

/* Runs the loop until nothing is to be done at once; fails when that never is. */
void bed_step(struct bed *bed);

/* The same after so much time. */
void bed_advance(struct bed *bed, uint64_t ms);

/* Answers the requests that wait, the newest first. */
void bed_answer(struct bed *bed);

/* A client on a pair of sockets that the server was given, and ones that connect to a listener. */
struct client client_open(struct bed *bed);
struct client client_connect(struct bed *bed, const char *path);
struct client client_connect_tcp(struct bed *bed, const char *address);

/* Sends all of it as far as the server takes it, which runs meanwhile. How much that was. */
size_t client_send(struct client *c, const void *data, size_t len);
void client_say(struct client *c, const char *text);

/* Lets the server run and takes what it says. */
void client_receive(struct client *c);
void client_close(struct client *c);

/* Forgets what came so far. */
void client_forget(struct client *c);

/* How many answers there are among what came, each whole; fails when something else came too. */
unsigned client_answers(const struct client *c);

/* The status of the n-th answer, from 0; and its body. */
unsigned client_status(const struct client *c, unsigned n);
struct http_text client_body(const struct client *c, unsigned n);

/* Whether a header is in the n-th answer, written as it is here, with its value. */
bool client_has(const struct client *c, unsigned n, const char *line);

#endif
