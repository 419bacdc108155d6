/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `virga clone`: N processes, each a machine of its own over one
 * snapshot, and the collection of their answers.
 */
#ifndef VIRGA_SERVE_CLI_CLONE_H
#define VIRGA_SERVE_CLI_CLONE_H

#include <stdint.h>

#include "serve/cli/options.h"
#include "serve/machine/process.h"

/*
 * Starts options->clones clones of the opened snapshot and waits for them. Answers and, with
 * --json, one object a line go to stdout. Returns the largest of the clones' exit statuses.
 * `base` has what all machines share (times, timing, snapshot).
 */
int clones_run(const struct options *options, const struct machine_options *base);

#endif
