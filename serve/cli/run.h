/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands have in common that start machines from this process: `run` and `restore`, with a
 * supervisor when something needs one, `clone` and `invoke`.
 */
#ifndef VIRGA_SERVE_CLI_RUN_H
#define VIRGA_SERVE_CLI_RUN_H

#include "serve/cli/options.h"
#include "serve/machine/process.h"

/*
 * Runs one machine to its end: under a supervisor when it has a control socket, a vsock path or the
 * terminal, else in this very process. The exit status; all sentences are printed.
 */
int run_supervised(const struct machine_options *machine);

/*
 * Starts one machine or more from the snapshot dir: opens it and calls run. name: the command's, for
 * sentences. clone: with an identity of its own. The exit status; all sentences are printed.
 */
int run_from_snapshot(const struct options *options, const char *dir, const char *name, bool clone,
		      int (*run)(const struct options *options,
				 const struct machine_options *machine));

/* Sets in *config those of control, vsock, serial and name that `now` has. 0 or -errno, sentence. */
int run_override(struct config *config, const struct config *now);

#endif
