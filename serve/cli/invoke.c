/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga invoke`: one request, to a function of the running host or to a fresh clone of this process;
 * exactly the answer's bytes to standard output.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/cli/command.h"
#include "serve/cli/host_client.h"
#include "serve/cli/input.h"
#include "serve/cli/output.h"
#include "serve/cli/run.h"
#include "serve/template/store.h"
#include "vmm.h"

/* To a clone: by this process, which becomes it. */
static int invoke_run(const struct options *options, const struct machine_options *base)
{
	struct machine_options machine = *base;
	struct output output = { 0 };
	struct machine_request request = {
		.timeout_ms = options->timeout_ms,
		.answer = output_keep,
		.deliver = output_write,
		.opaque = &output,
	};
	char *text;
	int status;

	if (input_read_data(options->data, &text, &request.len) < 0) {
		notef("invoke: %s", error_text());
		return STATUS_VIRGA;
	}
	request.data = text;
	machine.request = &request;
	status = machine_main(&machine);
	output_free(&output);
	free(text);
	return status;
}

/* To the running host, whose machines have the devices of their templates. */
static int invoke_host(int fd, const struct options *options)
{
	const struct config *config = &options->config;

	if (!config->devices_only && !config->devices.count)
		return host_invoke(fd, options);
	failf(EINVAL, "--device and --serial are not for a function of the running host, but for a "
		      "template: name it by its DIR, or with --store");
	return command_failed("invoke", STATUS_VIRGA);
}

/* A name is a function of the running host; without a host, a template of the store. */
int invoke_command(const struct options *options)
{
	int fd = -ENOENT, status;
	char *path = NULL;

	if (strchr(options->args[0], '/'))
		return run_from_snapshot(options, options->args[0], "invoke", true, invoke_run);
	if (!options->store || options->host)
		fd = host_connect(options->host);
	if (fd >= 0) {
		status = invoke_host(fd, options);
		close(fd);
		return status;
	}
	if (fd != -ENOENT || options->host)
		return command_failed("invoke", STATUS_VIRGA);
	if (template_store_path(options->store, options->args[0], false, &path) < 0)
		return command_failed("invoke", STATUS_VIRGA);
	if (access(path, F_OK) < 0) {
		failf(ENOENT, "no host is running, and the store has no template '%s' (%s)",
		      options->args[0], path);
		status = command_failed("invoke", STATUS_VIRGA);
	} else {
		status = run_from_snapshot(options, path, "invoke", true, invoke_run);
	}
	free(path);
	return status;
}
