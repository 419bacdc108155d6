/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virga: main, the table of commands, and each command's body where it is short.
 * The life of a machine is in serve/machine/process.c; nothing else calls exit.
 */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "boot/snapshot/snapshot.h"
#include "devices/device.h"
#include "seccomp/relro.h"
#include "serve/cli/clone.h"
#include "serve/cli/host_client.h"
#include "serve/cli/inspect.h"
#include "serve/cli/invoke.h"
#include "serve/cli/options.h"
#include "serve/control/supervisor.h"
#include "serve/host/keeper.h"
#include "serve/machine/process.h"
#include "serve/pool/spawner_process.h"
#include "serve/template/build.h"
#include "serve/template/store.h"
#include "serve/template/transport.h"

#define STATUS_HOST      1
#define STATUS_BAD_INPUT 2
#define STATUS_VIRGA     125 /* for commands whose status can be the guest's */

/* What the start of this process cost: CPU time before main, and when main began. */
static struct machine_options machine_base(const struct options *options)
{
	return (struct machine_options){
		.config = &options->config,
		.supervisor_fd = -1,
		.timing = options->timing,
		.main_us = options->main_us,
		.process_us = options->process_us,
	};
}

/* Says the stored sentence; returns the status for it. */
static int command_failed(const char *name, int status)
{
	notef("%s: %s", name, error_text());
	return status;
}

static int command_run(const struct options *options)
{
	struct machine_options machine = machine_base(options);
	char *text;

	if (!options->print_config)
		return supervised_run(&machine);
	text = config_print(&options->config);
	if (!text)
		return command_failed("run", STATUS_VIRGA);
	fputs(text, stdout);
	free(text);
	return 0;
}

/* Starts one machine or more from the snapshot that the first operand names. */
static int command_from_snapshot(const struct options *options, const char *name, bool clone,
				 int (*run)(const struct options *options,
					    const struct machine_options *machine))
{
	struct machine_options machine = machine_base(options);
	struct snapshot snapshot;
	int status;

	if (snapshot_open(&snapshot, options->args[0]) < 0)
		return command_failed(name, STATUS_VIRGA);
	machine.snapshot = &snapshot;
	machine.clone = clone;
	status = run(options, &machine);
	snapshot_close(&snapshot);
	return status;
}

static int restore_run(const struct options *options, const struct machine_options *machine)
{
	(void)options;
	return supervised_run(machine);
}

static int command_restore(const struct options *options)
{
	return command_from_snapshot(options, "restore", false, restore_run);
}

static int command_clone(const struct options *options)
{
	return command_from_snapshot(options, "clone", true, clones_run);
}

/* A name is a function of the running host; without a host, a template of the store. */
static int command_invoke(const struct options *options)
{
	struct options own = *options;
	int fd = -ENOENT, status;
	char *path = NULL;

	if (strchr(options->args[0], '/'))
		return command_from_snapshot(options, "invoke", true, invoke_run);
	if (!options->store || options->host)
		fd = host_connect(options);
	if (fd >= 0) {
		status = host_invoke(fd, options);
		close(fd);
		return status;
	}
	if (fd != -ENOENT || options->host)
		return command_failed("invoke", STATUS_VIRGA);
	if (template_store_path(options, options->args[0], false, &path) < 0)
		return command_failed("invoke", STATUS_VIRGA);
	own.args[0] = path;
	if (access(path, F_OK) < 0) {
		failf(ENOENT, "no host is running, and the store has no template '%s' (%s)",
		      options->args[0], path);
		status = command_failed("invoke", STATUS_VIRGA);
	} else {
		status = command_from_snapshot(&own, "invoke", true, invoke_run);
	}
	free(path);
	return status;
}

static int command_snapshot(const struct options *options)
{
	int status = snapshot_command(options->args[0], options->args[1], options->ready_timeout_s,
				      options->now);

	return status ? command_failed("snapshot", status) : 0;
}

static int command_inspect(const struct options *options)
{
	struct template_facts template;
	struct snapshot snapshot;
	char *path = NULL;
	int ret = 0;

	/* DIR may be written without a slash, too. */
	if (options->store || access(options->args[0], F_OK) < 0)
		ret = template_store_path(options, options->args[0], false, &path);
	if (ret == 0)
		ret = snapshot_open_template(&snapshot, &template, path ? path : options->args[0]);
	free(path);
	if (ret < 0)
		return command_failed("inspect", STATUS_BAD_INPUT);
	if (options->verify)
		ret = snapshot_verify(&snapshot);
	if (ret == 0)
		ret = snapshot_inspect(&snapshot, &template, options->json, stdout);
	if (ret == 0 && options->verify && !options->json)
		puts("digest         verified");
	snapshot_close(&snapshot);
	return ret < 0 ? command_failed("inspect", STATUS_BAD_INPUT) : 0;
}

static int command_devices(const struct options *options)
{
	for (unsigned i = 0; device_classes[i]; i++) {
		const struct device_class *class = device_classes[i];

		if (options->json)
			printf("{\"name\": \"%s\", \"version\": %u, \"description\": \"%s\"}\n",
			       class->name, class->version, class->description);
		else
			printf("%-14s %s\n", class->name, class->description);
	}
	return 0;
}

static int command_version(const struct options *options)
{
	(void)options;
	puts("virga " VIRGA_VERSION);
	return 0;
}

static const struct command commands[] = {
	{ COMMAND_RUN, "run", "", "Boots a guest and runs it to its end.", STATUS_VIRGA,
	  command_run },
	{ COMMAND_SNAPSHOT, "snapshot", "SOCKET DIR",
	  "Snapshots the machine behind a control socket into a new directory.", STATUS_BAD_INPUT,
	  command_snapshot },
	{ COMMAND_RESTORE, "restore", "DIR", "Continues the very machine that was snapshotted.",
	  STATUS_VIRGA, command_restore },
	{ COMMAND_CLONE, "clone", "DIR",
	  "Starts new machines from a snapshot, each with an identity of its own.", STATUS_VIRGA,
	  command_clone },
	{ COMMAND_INVOKE, "invoke", "NAME|DIR",
	  "Sends one request to a host's function, or a fresh clone, and prints the answer.",
	  STATUS_VIRGA, command_invoke },
	{ COMMAND_SERVE, "serve", "", "Serves functions by HTTP, a machine for every request.",
	  STATUS_BAD_INPUT, serve_command },
	{ COMMAND_STATUS, "status", "", "Shows how a running host is.", STATUS_BAD_INPUT,
	  status_command },
	{ COMMAND_TEMPLATE_BUILD, "template build", "NAME|DIR",
	  "Boots a guest, warms it up and makes a template that clones start fast from.",
	  STATUS_BAD_INPUT, template_build_command },
	{ COMMAND_TEMPLATE_LIST, "template list", "", "Lists the templates of the store.",
	  STATUS_BAD_INPUT, template_list_command },
	{ COMMAND_TEMPLATE_CHECK, "template check", "[NAME|DIR]",
	  "Verifies one template or all; removes what dead builders left.", STATUS_BAD_INPUT,
	  template_check_command },
	{ COMMAND_TEMPLATE_RM, "template rm", "NAME|DIR", "Removes a template.", STATUS_BAD_INPUT,
	  template_rm_command },
	{ COMMAND_TEMPLATE_EXPORT, "template export", "NAME|DIR FILE",
	  "Verifies a template and writes it to one file, for transport.", STATUS_BAD_INPUT,
	  template_export_command },
	{ COMMAND_TEMPLATE_IMPORT, "template import", "FILE NAME|DIR",
	  "Makes a template of such a file, when all of it is right.", STATUS_BAD_INPUT,
	  template_import_command },
	{ COMMAND_INSPECT, "inspect", "NAME|DIR", "Shows what a template or snapshot holds.",
	  STATUS_BAD_INPUT, command_inspect },
	{ COMMAND_DEVICES, "devices", "", "Lists the devices this virga was built with.",
	  STATUS_BAD_INPUT, command_devices },
	{ COMMAND_VERSION, "version", "", "Prints the version.", STATUS_BAD_INPUT,
	  command_version },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fputs("usage: virga COMMAND [OPTION...]\n"
	      "Boots a virtual machine once, then starts copies of it in about a millisecond.\n\n",
	      out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-15s %-13s %s\n", commands[i].name, commands[i].operands,
			commands[i].summary);
	fputs("\n'virga COMMAND --help' shows a command's options; the manual is virga(1).\n", out);
}

/* How many words of argv name the command; 0: not this one. */
static int command_words(const struct command *command, int argc, char **argv)
{
	size_t first = strcspn(command->name, " ");

	if (strncmp(argv[0], command->name, first) != 0 || argv[0][first])
		return 0;
	if (!command->name[first])
		return 1;
	return argc > 1 && strcmp(argv[1], command->name + first + 1) == 0 ? 2 : 0;
}

static const struct command *command_find(int argc, char **argv, int *words)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		*words = command_words(&commands[i], argc, argv);
		if (*words)
			return &commands[i];
	}
	return NULL;
}

/* argv[0] is no command, or one whose verb is missing or is --help. */
static int no_command(int argc, char **argv)
{
	bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	FILE *out = help ? stdout : stderr;
	size_t len = strlen(argv[0]);
	bool found = false;

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strncmp(commands[i].name, argv[0], len) != 0 || commands[i].name[len] != ' ')
			continue;
		if (!found && !help)
			notef("%s: %s%s one of these verbs", argv[0], argc > 1 ? argv[1] : "",
			      argc > 1 ? " is not" : "needs");
		found = true;
		fprintf(out, "usage: virga %s [OPTION...] %s\n  %s\n", commands[i].name,
			commands[i].operands, commands[i].summary);
	}
	if (!found)
		notef("'%s' is not a command; 'virga --help' lists them", argv[0]);
	return help && found ? 0 : STATUS_BAD_INPUT;
}

/*
 * A page of guest memory that its backing file no longer has: only this machine ends. Async-
 * signal-safe.
 */
static void on_sigbus(int signal)
{
	static const char text[] = "virga: guest memory cannot be read: its backing file was cut "
				   "short, or the host is out of memory\n";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(STATUS_VIRGA);
	_exit(STATUS_VIRGA);
}

/*
 * A closed descriptor 0, 1 or 2 would go to a file that we open, and messages into that file. In
 * its place: one that can neither be read nor written.
 */
static int reserve_standard(void)
{
	struct pollfd fds[] = { { .fd = STDIN_FILENO },
				{ .fd = STDOUT_FILENO },
				{ .fd = STDERR_FILENO } };

	if (poll(fds, 3, 0) < 0)
		return 0;
	for (int i = 0; i < 3; i++)
		if ((fds[i].revents & POLLNVAL) &&
		    open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY) != i)
			return failf(errno, "/dev/null: %s", strerror(errno));
	return 0;
}

/* Fails for a closed or full standard output, which a reader would take for a short answer. */
static int finish(const char *name, int status, int failed)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	notef("%s: cannot write to standard output: %s", name, strerror(errno));
	return status ? status : failed;
}

int main(int argc, char **argv)
{
	struct options options = { .main_us = monotonic_us() };
	const struct command *command;
	struct timespec cpu;
	int status, words;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	signal(SIGBUS, on_sigbus);
	signal(SIGPIPE, SIG_IGN);
	if (reserve_standard() < 0 || relro_protect() < 0) {
		notef("%s", error_text());
		return STATUS_VIRGA;
	}
	if (argc == 2 && strcmp(argv[0], SPAWNER_NAME) == 0)
		return spawner_main(argv[1]);
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		usage(argc < 2 ? stderr : stdout);
		return argc < 2 ? STATUS_BAD_INPUT : finish("help", 0, STATUS_HOST);
	}
	if (strcmp(argv[1], "--version") == 0)
		argv[1] = "version";
	command = command_find(argc - 1, argv + 1, &words);
	if (!command)
		return no_command(argc - 1, argv + 1);
	options.process_us = (uint64_t)cpu.tv_sec * 1000000u + (uint64_t)cpu.tv_nsec / 1000u;
	if (options_parse(&options, command, argc - words, argv + words) < 0) {
		notef("%s: %s; see 'virga %s --help'", command->name, error_text(), command->name);
		options_fini(&options);
		return command->bad_input;
	}
	if (options.help) {
		options_help(command, stdout);
		status = 0;
	} else {
		status = command->run(&options);
	}
	options_fini(&options);
	return finish(command->name, status,
		      command->bad_input == STATUS_VIRGA ? STATUS_VIRGA : STATUS_HOST);
}
