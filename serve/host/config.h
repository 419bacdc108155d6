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

#include "serve/pool/function_config.h"

#define HOST_LISTEN_MAX    8u
#define HOST_NAMES_MAX     16u
#define HOST_FUNCTIONS_MAX 1024u
#define HOST_BUILTIN       "builtin" /* the function that the embedded guest is */

/* Names of this machine, without ports, that requests by TCP may be for; beside those of its loopback. */
struct host_names {
	char *names[HOST_NAMES_MAX];
	uint32_t count;
};

/* Strings are owned. */
struct host_config {
	char *listen[HOST_LISTEN_MAX];
	uint32_t listen_count;
	struct host_names hosts;
	char *store;           /* NULL: the default */
	bool builtin;          /* the embedded guest is a function */
	bool all;              /* so is every template of the store: no functions were listed */
	uint32_t shells;       /* VM processes in all, at most */
	uint32_t bare;         /* bare shells that wait, of each shape */
	uint32_t refill;       /* shells of both kinds that are made a second, at most */
	uint64_t memory_total; /* bytes that they may take before they run; 0: no limit */
	struct function_config *functions;
	unsigned function_count;
};

/* Defaults; memory_total is three quarters of what the machine has available now. */
void host_config_init(struct host_config *config);
void host_config_fini(struct host_config *config);

/*
 * Reads a JSON object from a file over the defaults. 0, or -errno with a sentence that names file,
 * key and what is allowed.
 */
int host_config_read(struct host_config *config, const char *path);

#endif
