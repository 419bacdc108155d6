/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga template build`: a template is a snapshot of a guest that is ready and warm, with the
 * working set that trial clones of it showed. It is made under its directory's name with
 * .tmp and renamed last, or exchanged with the template that it replaces, so that under its
 * own name there is always a whole one or none.
 */
#ifndef VIRGA_SERVE_TEMPLATE_BUILD_H
#define VIRGA_SERVE_TEMPLATE_BUILD_H

#include "serve/cli/options.h"

/*
 * The command: the exit status, 0, 1 (the host, or a guest that does not do its part)
 * or 2 (bad input), every sentence printed.
 */
int template_build_command(const struct options *options);

#endif
