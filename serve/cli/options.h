/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table of options says which command takes which, and gives
 * parsing and --help. An option is a key (arch/base/keys.h), that of the
 * machine's configuration (boot/config.h) or one of the options' own.
 */
#ifndef VIRGA_SERVE_CLI_OPTIONS_H
#define VIRGA_SERVE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "boot/config.h"

enum command_id {
	COMMAND_RUN = 1 << 0,
	COMMAND_RESTORE = 1 << 1,
	COMMAND_CLONE = 1 << 2,
	COMMAND_SNAPSHOT = 1 << 3,
	COMMAND_INVOKE = 1 << 4,
	COMMAND_INSPECT = 1 << 5,
	COMMAND_DEVICES = 1 << 6,
	COMMAND_VERSION = 1 << 7,
	COMMAND_TEMPLATE_BUILD = 1 << 8,
	COMMAND_TEMPLATE_LIST = 1 << 9,
	COMMAND_TEMPLATE_CHECK = 1 << 10,
	COMMAND_TEMPLATE_RM = 1 << 11,
	COMMAND_TEMPLATE_EXPORT = 1 << 12,
	COMMAND_TEMPLATE_IMPORT = 1 << 13,
	COMMAND_SERVE = 1 << 14,
	COMMAND_STATUS = 1 << 15,
};

#define OPTIONS_TIMEOUT_DEFAULT_MS 30000u
#define OPTIONS_CLONES_MAX         10000u
#define OPTIONS_WARM_MAX           1000000u
#define OPTIONS_REQUESTS_MAX       16u
#define OPTIONS_LISTEN_MAX         8u

struct options {
	struct config config;
	uint64_t set;        /* bit per option of the table that was given */
	const char *args[2]; /* the operands; borrowed from argv */
	/* Texts are owned; NULL: not given. */
	uint32_t clones; /* clone -n */
	char *request;   /* clone --request */
	char *data;      /* invoke --data: TEXT or @FILE */
	uint32_t timeout_ms;
	uint32_t ready_timeout_ms;
	char *store;                      /* of templates; NULL: the default */
	char *config_file;                /* --config */
	char *listen[OPTIONS_LISTEN_MAX]; /* serve --listen */
	uint32_t listen_count;
	char *host;                                /* --host: address; NULL: the user's own */
	uint32_t warm;                             /* template build --warm */
	char *request_files[OPTIONS_REQUESTS_MAX]; /* --warm-request */
	uint32_t request_file_count;
	bool json, keep, timing, now, verify, print_config, watch;
	bool help;        /* --help was given; nothing else was checked */
	uint64_t main_us; /* set by main: monotonic_us() at its entry, and CPU time before it */
	uint64_t process_us;
};

/* A command as the table in vmm.c states it. */
struct command {
	enum command_id id;
	const char *name;
	const char *operands; /* "DIR", "SOCKET DIR" or ""; optional in brackets */
	const char *summary;  /* one line */
	int bad_input;        /* exit status for bad input */
	int (*run)(const struct options *options);
};

/*
 * Parses argv[1..] of a command (argv[0] is its name) over a struct that has only the times set.
 * 0, or -EINVAL with a sentence that names the
 * option and what is allowed. options_fini() in either case.
 */
int options_parse(struct options *options, const struct command *command, int argc, char **argv);
void options_fini(struct options *options);

/* Whether this build has what the command needs: 0, or -ENODEV with a sentence. */
int options_check_build(const struct options *options, const struct command *command);

/* Prints usage, summary and the command's options: a screen at most. */
void options_help(const struct command *command, FILE *out);

#endif
