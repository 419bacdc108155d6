/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: the first byte is a command, then words that end in NUL bytes. No file is opened:
 * --config has what it would load by the target `config`.
 */
/* wrap: config_load */
#include <stdlib.h>
#include <string.h>

#include "serve/cli/options.h"
#include "tests/fuzz/lib/bytes.h"

#define WORDS_MAX 40

int __wrap_config_load(struct config *config, const char *path);
int __wrap_config_load(struct config *config, const char *path)
{
	(void)path;
	return config_parse_saved(config, "{\"memory\": \"64M\", \"cpus\": 2}", "fuzz");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const operands[] = { "", "DIR", "[DIR]", "SOCKET DIR" };
	struct bytes in = { data, size };
	const unsigned id = bytes_below(&in, 16);
	const struct command command = {
		.id = (enum command_id)(1u << id),
		.name = "fuzz",
		.operands = operands[bytes_below(&in, 4)],
		.summary = "",
	};
	char *words = calloc(1, in.left + 1), *argv[WORDS_MAX + 2] = { "fuzz" };
	struct options options = { 0 };
	size_t len = in.left;
	int argc = 1;

	must(words != NULL);
	bytes_fill(&in, words, len);
	for (size_t at = 0; at < len && argc <= WORDS_MAX; at += strlen(words + at) + 1)
		argv[argc++] = words + at;
	if (options_parse(&options, &command, argc, argv) == 0 && !options.help) {
		char *text = config_print(&options.config);

		must(text != NULL);
		free(text);
	}
	options_fini(&options);
	free(words);
	return 0;
}
