/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that start one machine from this process: `run` and `restore`, with
 * a supervisor when something needs one, and `invoke`, always without.
 */
#ifndef VIRGA_SERVE_CLI_INVOKE_H
#define VIRGA_SERVE_CLI_INVOKE_H

#include "serve/cli/options.h"
#include "serve/machine/process.h"

/*
 * Runs one machine to its end: under a supervisor when it has a control socket, a vsock path or
 * the terminal, else in this very process. Returns the exit status; all sentences are printed.
 */
int supervised_run(const struct machine_options *machine);

/*
 * `virga invoke`: one request (--data) to a clone; exactly the answer's bytes to stdout. Returns
 * the exit status.
 */
int invoke_run(const struct options *options, const struct machine_options *base);

/* Reads --data: TEXT as it is, @FILE or @- (stdin). *text is owned by the caller. -errno, sentence. */
int invoke_read_data(const char *data, char **text, size_t *len);

/* The same of a file; option is for messages. */
int invoke_read_file(const char *option, const char *path, char **text, size_t *len);

/* Sets in *config those of control, vsock, serial and name that `now` has. 0 or -errno. */
int invoke_override(struct config *config, const struct config *now);

#endif
