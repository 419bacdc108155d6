/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table and its parser (serve/cli/options.h); getopt_long(3) does the
 * splitting, so GNU forms (--key=value, abbreviations, --) work.
 */
#include "serve/cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"

#define START_COMMANDS (COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE | COMMAND_INVOKE)
#define BOOT_COMMANDS  (COMMAND_RUN | COMMAND_TEMPLATE_BUILD)
#define STORE_COMMANDS                                                                             \
	(COMMAND_TEMPLATE_BUILD | COMMAND_TEMPLATE_LIST | COMMAND_TEMPLATE_CHECK |                 \
	 COMMAND_TEMPLATE_RM | COMMAND_TEMPLATE_EXPORT | COMMAND_TEMPLATE_IMPORT | COMMAND_SERVE | \
	 COMMAND_INVOKE | COMMAND_INSPECT)
#define ALL_COMMANDS 0xffffu

struct option_spec {
	const char *name;
	char letter;     /* short form, 0 for none */
	const char *arg; /* placeholder, NULL for a switch */
	unsigned commands;
	bool config; /* a key of boot/config.c */
	const char *help;
};

static const struct option_spec option_specs[] = {
	{ "kernel", 0, "FILE", BOOT_COMMANDS, true,
	  "bzImage or ELF64 kernel; without it the embedded guest" },
	{ "initrd", 0, "FILE", BOOT_COMMANDS, true, "initial RAM disk" },
	{ "cmdline", 0, "TEXT", BOOT_COMMANDS, true, "kernel command line" },
	{ "memory", 'm', "SIZE", BOOT_COMMANDS, true, "guest memory, with K, M or G (128M)" },
	{ "cpus", 0, "N", BOOT_COMMANDS, true, "vCPUs (1)" },
	{ "serial", 0, "WHERE", START_COMMANDS | COMMAND_TEMPLATE_BUILD, true,
	  "stdio, none, pty or file:PATH (run: stdio; else none)" },
	{ "vsock", 0, "PATH", COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE, true,
	  "unix socket that reaches the guest's vsock ports" },
	{ "control", 0, "PATH", COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE, true,
	  "unix socket for QMP" },
	{ "name", 0, "TEXT", BOOT_COMMANDS | COMMAND_RESTORE | COMMAND_CLONE, true,
	  "what to call the machine" },
	{ "config", 0, "FILE", BOOT_COMMANDS, false,
	  "JSON with these names as keys; options override it" },
	{ "config", 0, "FILE", COMMAND_SERVE, false,
	  "JSON: functions and limits, see virga(1); options override it" },
	{ "listen", 0, "ADDR:PORT|unix:PATH", COMMAND_SERVE, false,
	  "where to serve; may be repeated (127.0.0.1:9001)" },
	{ "host", 0, "ADDR:PORT|unix:PATH", COMMAND_INVOKE | COMMAND_STATUS, false,
	  "the running host to ask ($XDG_RUNTIME_DIR/virga.sock)" },
	{ "print-config", 0, NULL, COMMAND_RUN, false, "print the configuration as JSON and end" },
	{ "count", 'n', "N", COMMAND_CLONE, false, "how many clones (1)" },
	{ "request", 0, "TEXT", COMMAND_CLONE, false,
	  "send this to each; %i becomes the clone's number" },
	{ "keep", 0, NULL, COMMAND_CLONE, false, "keep the clones running after their answers" },
	{ "data", 0, "TEXT|@FILE", COMMAND_INVOKE, false,
	  "the request; @- reads standard input (empty)" },
	{ "warm", 0, "N", COMMAND_TEMPLATE_BUILD, false,
	  "send the warm-up requests N times before the snapshot (0)" },
	{ "warm-request", 0, "FILE", COMMAND_TEMPLATE_BUILD, false,
	  "a request to warm up and to try clones with, - for stdin; may be repeated (empty)" },
	{ "timeout", 0, "S", COMMAND_CLONE | COMMAND_INVOKE | COMMAND_TEMPLATE_BUILD, false,
	  "seconds an answer may take, fractions allowed (30)" },
	{ "now", 0, NULL, COMMAND_SNAPSHOT, false, "do not wait until the guest is ready" },
	{ "ready-timeout", 0, "S", COMMAND_SNAPSHOT | COMMAND_TEMPLATE_BUILD, false,
	  "seconds to wait for it (30)" },
	{ "verify", 0, NULL, COMMAND_INSPECT, false, "read memory and check its digest" },
	{ "store", 0, "DIR", STORE_COMMANDS, false,
	  "where templates are kept ($XDG_DATA_HOME/virga)" },
	{ "json", 0, NULL,
	  COMMAND_CLONE | COMMAND_INSPECT | COMMAND_DEVICES | COMMAND_TEMPLATE_LIST |
		  COMMAND_STATUS,
	  false, "for machines: JSON" },
	{ "watch", 0, NULL, COMMAND_STATUS, false, "again every second, until Ctrl-C" },
	{ "timing", 0, NULL, START_COMMANDS, false, "say on stderr what took how long" },
	{ "help", 'h', NULL, ALL_COMMANDS, false, "this text" },
};

#define OPTION_COUNT (sizeof(option_specs) / sizeof(option_specs[0]))

/* Seconds with an optional fraction as milliseconds. */
static int option_seconds(const char *name, const char *text, uint32_t *ms)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	if (end == text || *end || !(value > 0) || value > 86400)
		return failf(EINVAL,
			     "option --%s: '%s' is not a number of seconds above 0 and up "
			     "to 86400",
			     name, text);
	*ms = (uint32_t)(value * 1000 + 0.5);
	if (*ms == 0)
		*ms = 1;
	return 0;
}

static int option_count(const char *option, const char *text, unsigned min, unsigned max,
			unsigned *count)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (end == text || *end || text[0] == '-' || errno || value < min || value > max)
		return failf(EINVAL, "option %s: '%s' is not a number from %u to %u", option, text,
			     min, max);
	*count = (unsigned)value;
	return 0;
}

/* One more of an option that may be repeated. */
static int option_add(const char *name, const char *value, const char **list, unsigned *count,
		      unsigned max)
{
	if (*count == max)
		return failf(EINVAL, "option --%s: given more than %u times", name, max);
	list[(*count)++] = value;
	return 0;
}

static bool option_repeats(const char *name)
{
	return strcmp(name, "warm-request") == 0 || strcmp(name, "listen") == 0;
}

/* An option that is no key of the configuration. */
static int option_apply(struct options *o, const char *name, const char *value)
{
	uint32_t ms;
	int ret;

	if (strcmp(name, "count") == 0)
		return option_count("-n", value, 1, OPTIONS_CLONES_MAX, &o->clones);
	if (strcmp(name, "warm") == 0)
		return option_count("--warm", value, 0, OPTIONS_WARM_MAX, &o->warm);
	if (strcmp(name, "warm-request") == 0)
		return option_add(name, value, o->request_files, &o->request_file_count,
				  OPTIONS_REQUESTS_MAX);
	if (strcmp(name, "listen") == 0)
		return option_add(name, value, o->listen, &o->listen_count, OPTIONS_LISTEN_MAX);
	if (strcmp(name, "timeout") == 0)
		return option_seconds(name, value, &o->timeout_ms);
	if (strcmp(name, "ready-timeout") == 0) {
		ret = option_seconds(name, value, &ms);
		if (ret == 0)
			o->ready_timeout_s = (ms + 999) / 1000;
		return ret;
	}
	if (strcmp(name, "request") == 0)
		o->request = value;
	else if (strcmp(name, "store") == 0)
		o->store = value;
	else if (strcmp(name, "config") == 0)
		o->config_file = value;
	else if (strcmp(name, "host") == 0)
		o->host = value;
	else if (strcmp(name, "watch") == 0)
		o->watch = true;
	else if (strcmp(name, "data") == 0)
		o->data = value;
	else if (strcmp(name, "json") == 0)
		o->json = true;
	else if (strcmp(name, "keep") == 0)
		o->keep = true;
	else if (strcmp(name, "timing") == 0)
		o->timing = true;
	else if (strcmp(name, "now") == 0)
		o->now = true;
	else if (strcmp(name, "verify") == 0)
		o->verify = true;
	else if (strcmp(name, "print-config") == 0)
		o->print_config = true;
	return 0;
}

/* getopt's tables for one command: long options point back into option_specs by `val`. */
struct getopt_tables {
	struct option longs[OPTION_COUNT + 1];
	char shorts[2 * OPTION_COUNT + 2];
};

#define OPTION_VAL 0x100 /* long options are OPTION_VAL + index */

static void options_tables(const struct command *command, struct getopt_tables *t)
{
	size_t longs = 0, shorts = 0;

	*t = (struct getopt_tables){ 0 };
	t->shorts[shorts++] = ':';
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option_spec *spec = &option_specs[i];

		if (!(spec->commands & command->id))
			continue;
		t->longs[longs++] = (struct option){
			.name = spec->name,
			.has_arg = spec->arg ? required_argument : no_argument,
			.val = OPTION_VAL + (int)i,
		};
		if (!spec->letter)
			continue;
		t->shorts[shorts++] = spec->letter;
		if (spec->arg)
			t->shorts[shorts++] = ':';
	}
}

/* The option's index, or -EINVAL with a sentence for what getopt did not like. */
static int options_index(const struct command *command, int found, char **argv)
{
	const char *word = argv[optind - 1];

	if (found == ':' && optopt >= OPTION_VAL)
		return failf(EINVAL, "option --%s: needs a value",
			     option_specs[optopt - OPTION_VAL].name);
	if (found == ':')
		return failf(EINVAL, "option -%c: needs a value", optopt);
	if (found == '?' && optopt && optopt < OPTION_VAL)
		return failf(EINVAL, "option -%c: unknown to 'virga %s'", optopt, command->name);
	if (found >= OPTION_VAL)
		return found - OPTION_VAL;
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (found != '?' && option_specs[i].letter == found)
			return (int)i;
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		size_t len = strlen(option_specs[i].name);

		if (strncmp(word, "--", 2) == 0 &&
		    strncmp(word + 2, option_specs[i].name, len) == 0 &&
		    (word[2 + len] == 0 || word[2 + len] == '='))
			return failf(EINVAL, "option --%s: 'virga %s' does not take %s",
				     option_specs[i].name, command->name,
				     option_specs[i].commands & command->id ? "a value for it"
									    : "it");
	}
	return failf(EINVAL, "option %s: unknown to 'virga %s'", word, command->name);
}

/* The configuration file comes first, whatever its place, so that options override it. */
static int options_read_config(struct options *o, const struct command *command, int argc,
			       char **argv)
{
	struct getopt_tables tables;
	int found, ret = 0;

	options_tables(command, &tables);
	optind = 0;
	opterr = 0;
	while (ret == 0 &&
	       (found = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) >= 0)
		if (found >= OPTION_VAL &&
		    strcmp(option_specs[found - OPTION_VAL].name, "config") == 0)
			ret = config_read(&o->config, optarg);
	return ret;
}

static int options_operands(struct options *o, const struct command *command, int argc, char **argv)
{
	unsigned wanted = !command->operands[0] ? 0 : strchr(command->operands, ' ') ? 2 : 1;
	unsigned given = (unsigned)(argc - optind);

	if (given == 0 && command->operands[0] == '[')
		return 0;
	if (given < wanted)
		return failf(EINVAL, "'virga %s' needs %s", command->name, command->operands);
	if (given > wanted)
		return failf(EINVAL, "'%s': 'virga %s' takes %s", argv[optind + (int)wanted],
			     command->name, wanted ? command->operands : "options only");
	for (unsigned i = 0; i < wanted; i++) {
		o->args[i] = argv[optind + (int)i];
		if (!o->args[i][0])
			return failf(EINVAL, "'virga %s' needs %s, not an empty name",
				     command->name, command->operands);
	}
	return 0;
}

static int options_parse_all(struct options *o, const struct command *command, int argc,
			     char **argv)
{
	struct getopt_tables tables;
	int found, i, ret;

	options_tables(command, &tables);
	optind = 0;
	opterr = 0;
	while ((found = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) >= 0) {
		i = options_index(command, found, argv);
		if (i < 0)
			return i;
		if (strcmp(option_specs[i].name, "help") == 0) {
			o->help = true;
			return 0;
		}
		if ((o->set >> i & 1) && !option_repeats(option_specs[i].name))
			return failf(EINVAL, "option --%s: given twice; give it once",
				     option_specs[i].name);
		o->set |= 1ull << i;
		ret = option_specs[i].config ? config_set(&o->config, option_specs[i].name, optarg)
					     : option_apply(o, option_specs[i].name, optarg);
		if (ret < 0)
			return ret;
	}
	return options_operands(o, command, argc, argv);
}

int options_parse(struct options *options, const struct command *command, int argc, char **argv)
{
	int ret;

	options->clones = 1;
	options->timeout_ms = OPTIONS_TIMEOUT_DEFAULT_MS;
	options->ready_timeout_s = 30;
	config_init(&options->config);
	ret = command->id & BOOT_COMMANDS ? options_read_config(options, command, argc, argv) : 0;
	return ret < 0 ? ret : options_parse_all(options, command, argc, argv);
}

void options_fini(struct options *options)
{
	config_fini(&options->config);
}

void options_help(const struct command *command, FILE *out)
{
	fprintf(out, "usage: virga %s [OPTION...]%s%s\n%s\n\n", command->name,
		command->operands[0] ? " " : "", command->operands, command->summary);
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option_spec *spec = &option_specs[i];
		char left[40];

		if (!(spec->commands & command->id))
			continue;
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", spec->letter ? '-' : ' ',
			 spec->letter ? spec->letter : ' ', spec->letter ? "," : " ", spec->name,
			 spec->arg ? " " : "", spec->arg ? spec->arg : "");
		fprintf(out, "  %-26s %s\n", left, spec->help);
	}
}
