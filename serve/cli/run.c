/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga run` and `virga restore`, and what all commands have in common that start machines
 * (serve/cli/run.h). The fork into supervisor and VM process happens here, before anything of KVM is
 * opened.
 */
#include "serve/cli/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/devices.h"
#include "boot/snapshot/snapshot.h"
#include "serve/cli/command.h"
#include "serve/control/supervisor.h"
#include "vmm.h"

int command_failed(const char *name, int status)
{
	notef("%s: %s", name, error_text());
	return status;
}

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

int run_override(struct config *config, const struct config *now)
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
	ret = config_load(config, path);
	if (ret < 0)
		return ret;
	free(config->control);
	free(config->vsock);
	config->control = config->vsock = NULL;
	return run_override(config, machine->config);
}

int run_supervised(const struct machine_options *machine)
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

/* --- The commands --- */

/* What the start of this process cost: CPU time before main, and when main began. */
static struct machine_options run_base(const struct options *options)
{
	return (struct machine_options){
		.config = &options->config,
		.supervisor_fd = -1,
		.timing = options->timing,
		.main_us = options->main_us,
		.process_us = options->process_us,
	};
}

/* What the options say of devices is said of devices that the snapshot's machine has. */
static int run_match_devices(const struct options *options, const struct snapshot *snapshot)
{
	const struct config *config = &options->config;
	struct device_list list;
	int ret;

	if (!config->devices_only && !config->devices.count && !config->serial && !config->vsock)
		return 0;
	ret = snapshot_devices(snapshot, &list);
	if (ret == 0)
		ret = boot_devices_match(config, &list);
	device_list_fini(&list);
	return ret;
}

int run_from_snapshot(const struct options *options, const char *dir, const char *name, bool clone,
		      int (*run)(const struct options *options,
				 const struct machine_options *machine))
{
	struct machine_options machine = run_base(options);
	struct snapshot snapshot;
	int status;

	if (snapshot_open(&snapshot, dir) < 0)
		return command_failed(name, STATUS_VIRGA);
	if (run_match_devices(options, &snapshot) < 0) {
		snapshot_close(&snapshot);
		return command_failed(name, STATUS_VIRGA);
	}
	machine.snapshot = &snapshot;
	machine.clone = clone;
	status = run(options, &machine);
	snapshot_close(&snapshot);
	return status;
}

int run_command(const struct options *options)
{
	struct machine_options machine = run_base(options);
	char *text;

	if (!options->print_config)
		return run_supervised(&machine);
	text = config_print(&options->config);
	if (!text)
		return command_failed("run", STATUS_VIRGA);
	fputs(text, stdout);
	free(text);
	return 0;
}

static int restore_run(const struct options *options, const struct machine_options *machine)
{
	(void)options;
	return run_supervised(machine);
}

int restore_command(const struct options *options)
{
	return run_from_snapshot(options, options->args[0], "restore", false, restore_run);
}
