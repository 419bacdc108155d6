/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How one function is to be served: what its configuration says, or the defaults. Plain data.
 */
#ifndef VIRGA_SERVE_POOL_FUNCTION_CONFIG_H
#define VIRGA_SERVE_POOL_FUNCTION_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/ipc/invocation.h"

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

/* A function of defaults; template is copied. 0 or -ENOMEM with a sentence. */
int function_config_init(struct function_config *f, const char *name, const char *template);
void function_config_fini(struct function_config *f);

/* Whether a function may have that name: 1 to 64 letters, digits, '-' and '_'. */
bool function_name_valid(const char *name, size_t len);

/* How people call them, and one of them; NULL at the end. */
extern const char *const policy_names[];
const char *policy_name(enum policy policy);

#endif
