/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga serve`: the function host (serve/host/keeper.h).
 */
#include "serve/cli/command.h"
#include "serve/host/keeper.h"

int serve_command(const struct options *options)
{
	const struct keeper_options keeper = {
		.store = options->store,
		.config_file = options->config_file,
		.listen = options->listen,
		.listen_count = options->listen_count,
	};

	return keeper_main(&keeper);
}
