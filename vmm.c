/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virga: main and the table of commands, which is both dispatch and usage. A command's body is in
 * serve/cli/, the life of a machine in serve/machine/; nothing else calls exit.
 */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/sigbus.h"
#include "arch/base/signals.h"
#include "seccomp/relro.h"
#include "serve/cli/command.h"
#include "serve/pool/spawner_process.h"
#include "serve/template/loader_process.h"

static int command_version(const struct options *options)
{
	(void)options;
	puts("virga " VIRGA_VERSION);
	return 0;
}

static const struct command commands[] = {
	{ COMMAND_RUN, "run", "", "Boots a guest and runs it to its end.", STATUS_VIRGA,
	  run_command },
	{ COMMAND_SNAPSHOT, "snapshot", "SOCKET DIR",
	  "Snapshots the machine behind a control socket into a new directory.", STATUS_BAD_INPUT,
	  snapshot_command },
	{ COMMAND_RESTORE, "restore", "DIR", "Continues the very machine that was snapshotted.",
	  STATUS_VIRGA, restore_command },
	{ COMMAND_CLONE, "clone", "DIR",
	  "Starts new machines from a snapshot, each with an identity of its own.", STATUS_VIRGA,
	  clone_command },
	{ COMMAND_INVOKE, "invoke", "NAME|DIR",
	  "Sends one request to a host's function, or a fresh clone, and prints the answer.",
	  STATUS_VIRGA, invoke_command },
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
	  STATUS_BAD_INPUT, inspect_command },
	{ COMMAND_DEVICES, "devices", "", "Lists the devices this virga was built with.",
	  STATUS_BAD_INPUT, devices_command },
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
 * A closed descriptor 0, 1 or 2 would go to a file that we open, and sentences into that file. In
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
	notef("%s: cannot write to standard output: %s", name, write_error(errno));
	return status ? status : failed;
}

int main(int argc, char **argv)
{
	struct options options = { .main_us = monotonic_us() };
	const bool spawner = argc > 1 && strcmp(argv[0], SPAWNER_NAME) == 0;
	const bool loader = argc > 1 && strcmp(argv[0], LOADER_NAME) == 0;
	const struct command *command;
	struct timespec cpu;
	int status, words;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	/* Parts of a host have what its front has set; the group's SIGTERM must not reach them now. */
	if (!spawner && !loader)
		signals_begin();
	/* Who makes a file can use it: a mask may deny it to others only. */
	umask(umask(S_IRWXG | S_IRWXO) & (S_IRWXG | S_IRWXO));
	sigbus_begin(STATUS_VIRGA);
	if (reserve_standard() < 0 || relro_protect() < 0) {
		notef("%s", error_text());
		return STATUS_VIRGA;
	}
	if (spawner)
		return spawner_main(argv[1]);
	if (loader)
		return loader_main(argv);
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
	} else if (options_check_build(&options, command) < 0) {
		status = command_failed(command->name, command->bad_input);
	} else {
		status = command->run(&options);
	}
	options_fini(&options);
	return finish(command->name, status,
		      command->bad_input == STATUS_VIRGA ? STATUS_VIRGA : STATUS_HOST);
}
