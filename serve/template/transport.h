/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga template export` and `import`: a template as one file, for transport. The file
 * is a tar archive through zstd, both made and read by the installed programs; the
 * template itself stays raw and mappable. docs/decisions/transport.md says why.
 */
#ifndef VIRGA_SERVE_TEMPLATE_TRANSPORT_H
#define VIRGA_SERVE_TEMPLATE_TRANSPORT_H

#include "serve/cli/options.h"

/* The exit status: 0, 1 (the host, a damaged template or file) or 2 (bad input), all said. */
int template_export_command(const struct options *options);
int template_import_command(const struct options *options);

#endif
