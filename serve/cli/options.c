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
#include "arch/base/keys.h"
#include "boot/devices.h"

#define START_COMMANDS (COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE | COMMAND_INVOKE)
#define BOOT_COMMANDS  (COMMAND_RUN | COMMAND_TEMPLATE_BUILD)
#define STORE_COMMANDS                                                                             \
	(COMMAND_TEMPLATE_BUILD | COMMAND_TEMPLATE_LIST | COMMAND_TEMPLATE_CHECK |                 \
	 COMMAND_TEMPLATE_RM | COMMAND_TEMPLATE_EXPORT | COMMAND_TEMPLATE_IMPORT | COMMAND_SERVE | \
	 COMMAND_INVOKE | COMMAND_INSPECT)
#define ALL_COMMANDS 0xffffu

static int option_add_device(struct config *config, const char *name, const char *value)
{
	(void)name;
	return config_add_device(config, value);
}

/* An option: a key of the machine's configuration, or of the options alone. */
struct option_spec {
	struct key key; /* KEY_OTHER: of the configuration, set by: */
	int (*set)(struct config *config, const char *name, const char *value);
	char letter;     /* short form, 0 for none */
	const char *arg; /* placeholder, NULL for a switch */
	unsigned commands;
	const char *help; /* NULL: that of the device's option that it is short for */
};

/* clang-format off */
#define OPTION_MACHINE(option, ...) { { .name = option, .type = KEY_OTHER }, config_set, __VA_ARGS__ }
#define OPTION_TEXT(member, option, ...) \
	{ KEY_BYTES(struct options, member, option), NULL, __VA_ARGS__ }
#define OPTION_SWITCH(member, option, short_form, who, what) \
	{ KEY_BOOL(struct options, member, option), NULL, short_form, NULL, who, what }

static const struct option_spec option_specs[] = {
	OPTION_MACHINE("kernel", 0, "FILE", BOOT_COMMANDS,
	  "bzImage or ELF kernel; without it the embedded guest"),
	OPTION_MACHINE("initrd", 0, "FILE", BOOT_COMMANDS, "initial RAM disk"),
	OPTION_MACHINE("cmdline", 0, "TEXT", BOOT_COMMANDS, "kernel command line"),
	OPTION_MACHINE("memory", 'm', "SIZE", BOOT_COMMANDS, "guest memory, with K, M or G (128M)"),
	OPTION_MACHINE("cpus", 0, "N", BOOT_COMMANDS, "vCPUs (1)"),
	OPTION_MACHINE("serial", 0, "WHERE", START_COMMANDS | COMMAND_TEMPLATE_BUILD,
	  NULL),
	OPTION_MACHINE("vsock", 0, "PATH", COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE,
	  NULL),
	OPTION_MACHINE("control", 0, "PATH", COMMAND_RUN | COMMAND_RESTORE | COMMAND_CLONE,
	  "unix socket for QMP"),
	OPTION_MACHINE("name", 0, "TEXT", BOOT_COMMANDS | COMMAND_RESTORE | COMMAND_CLONE,
	  "what to call the machine"),
	{ { .name = "device", .type = KEY_OTHER }, option_add_device, 0, "WORD[,KEY=VALUE...]",
	  START_COMMANDS | COMMAND_TEMPLATE_BUILD,
	  "may be repeated, 'virga devices' has the words; none: only those named" },
	OPTION_TEXT(config_file, "config", 0, "FILE", BOOT_COMMANDS,
	  "JSON with these names as keys; options override it"),
	OPTION_TEXT(config_file, "config", 0, "FILE", COMMAND_SERVE,
	  "JSON: functions and limits, see virga(1); options override it"),
	{ KEY_LIST(struct options, listen, listen_count, "listen"), NULL, 0, "ADDR:PORT|unix:PATH",
	  COMMAND_SERVE, "where to serve; may be repeated (127.0.0.1:9001)" },
	OPTION_TEXT(host, "host", 0, "ADDR:PORT|unix:PATH", COMMAND_INVOKE | COMMAND_STATUS,
	  "the running host to ask ($XDG_RUNTIME_DIR/virga.sock)"),
	OPTION_SWITCH(print_config, "print-config", 0, COMMAND_RUN,
	  "print the configuration as JSON and end"),
	{ KEY_COUNT(struct options, clones, "count", 1, OPTIONS_CLONES_MAX), NULL, 'n', "N", COMMAND_CLONE,
	  "how many clones (1)" },
	OPTION_TEXT(request, "request", 0, "TEXT", COMMAND_CLONE,
	  "send this to each; %i becomes the clone's number"),
	OPTION_SWITCH(keep, "keep", 0, COMMAND_CLONE, "keep the clones running after their answers"),
	OPTION_TEXT(data, "data", 0, "TEXT|@FILE", COMMAND_INVOKE,
	  "the request; @- reads standard input (empty)"),
	{ KEY_COUNT(struct options, warm, "warm", 0, OPTIONS_WARM_MAX), NULL, 0, "N", COMMAND_TEMPLATE_BUILD,
	  "send the warm-up requests N times before the snapshot (0)" },
	{ KEY_LIST(struct options, request_files, request_file_count, "warm-request"), NULL, 0, "FILE",
	  COMMAND_TEMPLATE_BUILD,
	  "request for warming up and trials, - is stdin; may be repeated (empty)" },
	{ KEY_SECONDS(struct options, timeout_ms, "timeout"), NULL, 0, "S",
	  COMMAND_CLONE | COMMAND_INVOKE | COMMAND_TEMPLATE_BUILD,
	  "seconds an answer may take, fractions allowed (30)" },
	OPTION_SWITCH(now, "now", 0, COMMAND_SNAPSHOT, "do not wait until the guest is ready"),
	{ KEY_SECONDS(struct options, ready_timeout_ms, "ready-timeout"), NULL, 0, "S",
	  COMMAND_SNAPSHOT | COMMAND_TEMPLATE_BUILD,
	  "seconds to wait for it, and for each answer of the machine (30)" },
	OPTION_SWITCH(verify, "verify", 0, COMMAND_INSPECT, "read memory and check its digest"),
	OPTION_TEXT(store, "store", 0, "DIR", STORE_COMMANDS,
	  "where templates are kept ($XDG_DATA_HOME/virga)"),
	OPTION_SWITCH(json, "json", 0, COMMAND_CLONE | COMMAND_INSPECT | COMMAND_DEVICES |
	  COMMAND_TEMPLATE_LIST | COMMAND_STATUS, "for machines: JSON"),
	OPTION_SWITCH(watch, "watch", 0, COMMAND_STATUS, "again every second, until Ctrl-C"),
	OPTION_SWITCH(timing, "timing", 0, START_COMMANDS, "say on stderr what took how long"),
	OPTION_SWITCH(help, "help", 'h', ALL_COMMANDS, "this text"),
};
/* clang-format on */

#define OPTION_COUNT (sizeof(option_specs) / sizeof(option_specs[0]))

static bool option_repeats(const struct option_spec *spec)
{
	return spec->key.type == KEY_LIST || spec->set == option_add_device;
}

/* An option's value, checked and put in its place. */
static int option_apply(struct options *o, const struct option_spec *spec, const char *value)
{
	int ret;

	if (spec->set)
		return spec->set(&o->config, spec->key.name, value);
	ret = key_set(&spec->key, o, NULL, spec->arg ? value : "true");
	return ret < 0 ? failf(-ret, "option --%s", error_text()) : 0;
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
			.name = spec->key.name,
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
			     option_specs[optopt - OPTION_VAL].key.name);
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
		size_t len = strlen(option_specs[i].key.name);

		if (strncmp(word, "--", 2) == 0 &&
		    strncmp(word + 2, option_specs[i].key.name, len) == 0 &&
		    (word[2 + len] == 0 || word[2 + len] == '='))
			return failf(EINVAL, "option --%s: 'virga %s' does not take %s",
				     option_specs[i].key.name, command->name,
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
		    strcmp(option_specs[found - OPTION_VAL].key.name, "config") == 0)
			ret = config_load(&o->config, optarg);
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
		if ((o->set >> i & 1) && !option_repeats(&option_specs[i]))
			return failf(EINVAL, "option --%s: given twice; give it once",
				     option_specs[i].key.name);
		o->set |= 1ull << i;
		ret = option_apply(o, &option_specs[i], optarg);
		if (ret < 0 || o->help)
			return ret;
	}
	return options_operands(o, command, argc, argv);
}

int options_parse(struct options *options, const struct command *command, int argc, char **argv)
{
	int ret;

	options->clones = 1;
	options->timeout_ms = OPTIONS_TIMEOUT_DEFAULT_MS;
	options->ready_timeout_ms = OPTIONS_TIMEOUT_DEFAULT_MS;
	config_init(&options->config);
	ret = command->id & BOOT_COMMANDS ? options_read_config(options, command, argc, argv) : 0;
	return ret < 0 ? ret : options_parse_all(options, command, argc, argv);
}

void options_fini(struct options *options)
{
	config_fini(&options->config);
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct key one[] = { option_specs[i].key, KEY_END };

		keys_fini(one, options);
	}
}

int options_check_build(const struct options *options, const struct command *command)
{
	/* They speak to the guest's function. */
	const enum command_id channel = COMMAND_INVOKE | COMMAND_TEMPLATE_BUILD | COMMAND_SERVE;

	return command->id & channel || options->request
		       ? boot_devices_channel(command->name,
					      command->id == COMMAND_TEMPLATE_BUILD &&
						      !options->config.kernel)
		       : 0;
}

static const char *option_help(const struct option_spec *spec)
{
	const struct device_option *option = config_short_option(spec->key.name);

	return spec->help ? spec->help : option ? option->help : "not in this build";
}

void options_help(const struct command *command, FILE *out)
{
	fprintf(out, "usage: virga %s [OPTION...]%s%s\n%s\n\n", command->name,
		command->operands[0] ? " " : "", command->operands, command->summary);
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option_spec *spec = &option_specs[i];
		char left[40];
		bool wide; /* its help has no room beside it */

		if (!(spec->commands & command->id))
			continue;
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", spec->letter ? '-' : ' ',
			 spec->letter ? spec->letter : ' ', spec->letter ? "," : " ",
			 spec->key.name, spec->arg ? " " : "", spec->arg ? spec->arg : "");
		wide = strlen(left) > 26;
		fprintf(out, "  %-26s%s%*s%s\n", left, wide ? "\n" : "", wide ? 29 : 1, "",
			option_help(spec));
	}
}
