/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine from one command (serve/cli/invoke.h). The fork into supervisor and VM
 * process happens here, before anything of KVM is opened.
 */
#include "serve/cli/invoke.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/cli/output.h"
#include "serve/control/supervisor.h"

#define STATUS_VIRGA 125

/* Whether the serial port is on our standard input: by command line or default, not by snapshot. */
static bool serial_on_stdio(const struct machine_options *machine)
{
	const char *serial = machine->config->serial;

	return serial ? strcmp(serial, "stdio") == 0 : !machine->snapshot;
}

static bool supervisor_needed(const struct machine_options *machine)
{
	const struct config *config = machine->config;

	return config->control || config->vsock ||
	       (serial_on_stdio(machine) && isatty(STDIN_FILENO));
}

/* In the child: the VM process, which must not outlive its supervisor. */
static int supervised_child(const struct machine_options *machine, int fd, pid_t parent)
{
	struct machine_options own = *machine;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return STATUS_VIRGA;
	own.supervisor_fd = fd;
	return machine_main(&own);
}

int invoke_override(struct config *config, const struct config *now)
{
	int ret = 0;

	if (now->control)
		ret = config_set(config, "control", now->control);
	if (ret == 0 && now->vsock)
		ret = config_set(config, "vsock", now->vsock);
	if (ret == 0 && now->serial)
		ret = config_set(config, "serial", now->serial);
	if (ret == 0 && now->name)
		ret = config_set(config, "name", now->name);
	return ret;
}

/*
 * The configuration that further snapshots of a restored machine store: what its snapshot says,
 * under the names of now. The paths of then are not ours.
 */
static int supervised_config(const struct machine_options *machine, struct config *config)
{
	char path[4200];
	int ret;

	snprintf(path, sizeof(path), "%s/config", machine->snapshot->path);
	ret = config_read(config, path);
	if (ret < 0)
		return ret;
	free(config->control);
	free(config->vsock);
	config->control = config->vsock = NULL;
	return invoke_override(config, machine->config);
}

int supervised_run(const struct machine_options *machine)
{
	struct supervisor_options options = {
		.config = machine->config,
		.terminal = serial_on_stdio(machine),
		.control_fd = -1,
	};
	const pid_t parent = getpid();
	struct config config;
	int pair[2], status = STATUS_VIRGA;

	if (!supervisor_needed(machine))
		return machine_main(machine);
	vm_block_signals();
	config_init(&config);
	if (machine->snapshot) {
		if (supervised_config(machine, &config) < 0)
			goto say;
		options.config = &config;
	}
	if (machine->config->control) {
		options.control_fd = supervisor_listen(machine->config->control);
		if (options.control_fd < 0)
			goto say;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		failf(errno, "cannot make a socket pair: %s", strerror(errno));
		goto say;
	}
	options.child = fork();
	if (options.child < 0) {
		failf(errno, "cannot fork: %s", strerror(errno));
		goto say;
	}
	if (options.child == 0) {
		close(pair[0]);
		if (options.control_fd >= 0)
			close(options.control_fd);
		status = supervised_child(machine, pair[1], parent);
		config_fini(&config);
		return status;
	}
	close(pair[1]);
	options.fd = pair[0];
	status = supervisor_run(&options);
	config_fini(&config);
	return status;

say:
	notef("%s", error_text());
	config_fini(&config);
	return status;
}

/* Reads a file whole, one byte past the limit at most. */
int invoke_read_file(const char *option, const char *path, char **text, size_t *len)
{
	int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	size_t size = CHANNEL_PAYLOAD_MAX + 1;
	ssize_t n = 1;
	int err;

	if (fd < 0)
		return failf(errno, "option --%s: %s: %s", option, path, strerror(errno));
	*text = malloc(size);
	*len = 0;
	while (*text && *len < size && (n = read(fd, *text + *len, size - *len)) > 0)
		*len += (size_t)n;
	err = *text ? errno : ENOMEM;
	close(fd);
	if (*text && n >= 0)
		return 0;
	free(*text);
	*text = NULL;
	return failf(err, "option --%s: %s: %s", option, path, strerror(err));
}

int invoke_read_data(const char *data, char **text, size_t *len)
{
	if (data && data[0] == '@')
		return invoke_read_file("data", data + 1, text, len);
	*text = strdup(data ? data : "");
	if (!*text)
		return failf(ENOMEM, "out of memory");
	*len = strlen(*text);
	return 0;
}

int invoke_run(const struct options *options, const struct machine_options *base)
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

	if (invoke_read_data(options->data, &text, &request.len) < 0) {
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
