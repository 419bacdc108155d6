/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga run` and `virga restore`, and what all commands have in common that start machines
 * (serve/cli/run.h). Nothing of KVM is opened before the supervisor has forked.
 */
#include "serve/cli/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/snapshot.h"
#include "serve/cli/command.h"
#include "serve/control/supervisor.h"
#include "serve/machine/machine.h"
#include "vmm.h"

int command_failed(const char *name, int status)
{
	notef("%s: %s", name, error_text());
	return status;
}

/* Whether the serial port is on our standard input: by command line or default, not by snapshot. */
static bool serial_on_stdio(const struct machine_options *machine)
{
	const char *to = config_short(machine->config, "serial");

	return to ? strcmp(to, "stdio") == 0 : machine->stdio;
}

static bool supervisor_needed(const struct machine_options *machine)
{
	const struct config *config = machine->config;
	const char *key;

	for (unsigned i = 0; i < config->devices.count; i++)
		if (device_spec_answer(&config->devices.list[i], DEVICE_CONNECT, &key))
			return true;
	return config->control || (serial_on_stdio(machine) && isatty(STDIN_FILENO));
}

/* The VM process of a machine that has a supervisor. */
static int supervised_vm(void *opaque, int fd)
{
	struct machine_options *machine = opaque;

	machine->supervisor_fd = fd;
	return machine_main(machine);
}

int run_override(struct config *config, const struct config *now)
{
	int ret = 0;

	if (now->control)
		ret = config_set(config, "control", now->control);
	if (ret == 0 && now->name)
		ret = config_set(config, "name", now->name);
	return ret < 0 ? ret : device_list_merge(&config->devices, &now->devices);
}

/*
 * The configuration that further snapshots of a restored machine store: what its snapshot says,
 * under the names of now. The paths of then are not ours.
 */
static int supervised_config(const struct machine_options *machine, struct config *config)
{
	const struct snapshot *s = machine->snapshot;
	char where[4200];
	int ret;

	/* What was opened and checked: the path may be another snapshot's by now. */
	snprintf(where, sizeof(where), "%s/config", s->path);
	ret = config_parse_saved(config, (const char *)s->config.data, where);
	return ret < 0 ? ret : run_override(config, machine->config);
}

int run_supervised(const struct machine_options *machine)
{
	struct machine_options own = *machine;
	struct supervisor_options options = {
		.config = machine->config,
		.terminal = serial_on_stdio(machine),
		.control_fd = -1,
		.vm = supervised_vm,
		.opaque = &own,
	};
	struct device_list devices;
	struct config config;
	int status = STATUS_VIRGA, ret;

	if (!supervisor_needed(machine))
		return machine_main(machine);
	vm_block_signals();
	config_init(&config);
	options.devices = &devices;
	ret = machine_devices(machine->config, machine->snapshot, NULL, &devices);
	if (ret == 0 && machine->snapshot) {
		ret = supervised_config(machine, &config);
		options.config = &config;
	}
	if (ret == 0 && machine->config->control)
		ret = options.control_fd = supervisor_listen(machine->config->control);
	if (ret < 0)
		notef("%s", error_text());
	else
		status = supervisor_run(&options);
	config_fini(&config);
	device_list_fini(&devices);
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

	if (!config->devices_only && !config->devices.count)
		return 0;
	ret = machine_devices(config, snapshot, NULL, &list);
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

	machine.stdio = true;
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
