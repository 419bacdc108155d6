/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which functions the host has, and the templates behind them: from the configuration and the
 * store at first, and again when a template is built or removed (inotify(7)) or SIGHUP comes.
 */
#ifndef VIRGA_SERVE_HOST_CATALOG_H
#define VIRGA_SERVE_HOST_CATALOG_H

#include "serve/host/config.h"
#include "serve/pool/pool.h"

struct catalog_load;

struct catalog {
	/* Set by the owner. */
	const char *named_store;    /* by the command; NULL: the configuration names it */
	const char *config_file;    /* NULL: none */
	struct host_config *config; /* to begin with; its functions are taken over */
	struct pool *pool;
	/* One function of the first round can be served. */
	void (*ready)(void *opaque);
	/* The first round is over; error: a function that was asked for has no template. */
	void (*loaded)(void *opaque, const char *error);
	void *opaque;

	struct loop *loop;
	struct timers *timers;
	const char *store; /* its path; NULL: the default */
	char *store_name;  /* owned: where the configuration names it */
	bool all;          /* every template of the store is a function */
	bool first;        /* the first round is under way */
	bool again;        /* and another was asked for meanwhile */
	bool stopped;
	bool first_builtin; /* first_error is of the embedded guest: no input is at fault */
	char first_error[512];
	struct catalog_load *loads; /* under way or to come, oldest first */
	unsigned running;
	int inotify_fd;
	struct loop_watch *watch;
	struct timer settle; /* after the last change in the store */
};

/*
 * Makes the functions of the configuration and begins to load their templates; loaded() follows,
 * perhaps from within. 0 or -errno with a sentence.
 */
int catalog_start(struct catalog *c, struct loop *loop, struct timers *timers);

/*
 * Reads the configuration and all templates anew, after the first round. What cannot be used is said,
 * and changes nothing.
 */
void catalog_refresh(struct catalog *c);

/* Ends what is under way. */
void catalog_stop(struct catalog *c);

#endif
