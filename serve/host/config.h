/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of the function host: one JSON object, each key checked, every default
 * here. README.md shows an example, virga(1) has the keys.
 */
#ifndef VIRGA_SERVE_HOST_CONFIG_H
#define VIRGA_SERVE_HOST_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/machine/shell.h"

#define HOST_LISTEN_MAX    8u
#define HOST_FUNCTIONS_MAX 1024u
#define HOST_BUILTIN       "builtin" /* the function that the embedded guest is */

/* Strings are owned. */
struct function_config {
	char *name;
	char *template;       /* NAME of the store or DIR; NULL: the embedded guest */
	uint64_t memory;      /* bytes; of a template what it must have, 0: any */
	uint32_t timeout_ms;  /* from a request's arrival to its answer */
	uint32_t concurrency; /* requests that run at once */
	uint32_t queue;       /* that wait */
	enum policy policy;
	uint32_t idle_timeout_ms; /* of a machine that policy keep left standing */
	bool json;                /* request and answer must be JSON */
	char *environment;        /* NAME=VALUE strings, each with its NUL; NULL: none */
	size_t environment_len;
	uint32_t pool_min; /* armed clones that wait */
	uint32_t pool_max;
	uint32_t pool_refill; /* a second, at most */
};

struct host_config {
	char *listen[HOST_LISTEN_MAX];
	unsigned listen_count;
	char *store;     /* NULL: the default */
	bool builtin;    /* the embedded guest is a function */
	bool all;        /* so is every template of the store: no functions were listed */
	uint32_t shells; /* VM processes in all, at most */
	uint32_t bare;   /* bare shells that wait, of each shape */
	uint32_t refill; /* shells of both kinds that are made a second, at most */
	struct function_config *functions;
	unsigned function_count;
};

/* Defaults. */
void host_config_init(struct host_config *config);
void host_config_fini(struct host_config *config);

/*
 * Reads a JSON object from a file over the defaults. 0, or -errno with a sentence that names file,
 * key and what is allowed.
 */
int host_config_read(struct host_config *config, const char *path);

/* A function of defaults; template is copied. 0 or -ENOMEM with a sentence. */
int function_config_init(struct function_config *f, const char *name, const char *template);
void function_config_fini(struct function_config *f);

/* Whether a function may have that name: 1 to 64 letters, digits, '-' and '_'. */
bool function_name_valid(const char *name, size_t len);

const char *policy_name(enum policy policy);

#endif
