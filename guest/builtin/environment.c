/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The variables that ENVIRONMENT brought, and the request `env`. They stay as they
 * came: NAME=VALUE strings, each ended by a NUL byte.
 */
#include "guest/builtin/server.h"

#define ENVIRONMENT_SIZE PAGE_SIZE

static uint8_t environment[ENVIRONMENT_SIZE] __attribute__((aligned(PAGE_SIZE)));

void environment_take(struct guest *g, uint32_t at, const uint8_t *data, uint32_t len)
{
	g->environment_len = 0;
	if (at <= ENVIRONMENT_SIZE && len <= ENVIRONMENT_SIZE - at)
		memcpy(environment + at, data, len);
}

void environment_end(struct guest *g, uint32_t len)
{
	static const char sentence[] = "environment: longer than 4096 bytes, or without a NUL "
				       "byte at its end: ignored\n";

	g->environment_len = 0;
	if (len == 0)
		return;
	if (len <= ENVIRONMENT_SIZE && environment[len - 1] == '\0')
		g->environment_len = len;
	else
		channel_answer(g, CHANNEL_LOG, 0, sentence, sizeof(sentence) - 1);
}

void command_env(struct guest *g, const struct request *r)
{
	const uint8_t *end = environment + g->environment_len;
	uint32_t n;

	for (const uint8_t *at = environment; at < end; at += n + 1) {
		uint32_t i = 0;

		for (n = 0; at[n] != '\0'; n++)
			;
		while (i < r->len && i < n && at[i] == r->text[i] && at[i] != '=')
			i++;
		if (i == r->len && at[i] == '=') {
			channel_answer(g, CHANNEL_RESPONSE, r->id, at + i + 1, n - i - 1);
			return;
		}
	}
	channel_answer(g, CHANNEL_RESPONSE, r->id, NULL, 0);
}
