/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment of workers; see environment.h.
 */
#include "guest/agent/environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* Whether one of the first `count` strings is of the same variable. */
static bool environment_has(char **strings, size_t count, const char *string)
{
	size_t name = strcspn(string, "=");

	for (size_t i = 0; i < count; i++)
		if (strncmp(strings[i], string, name) == 0 && strings[i][name] == '=')
			return true;
	return false;
}

/* The strings in data, then of `own` those that are not among them; NULL at the end. */
static char **environment_merge(char *data, size_t len, char **own)
{
	size_t room = 1, count = 0, given;
	char **all;

	for (size_t at = 0; at < len; at += strlen(data + at) + 1)
		room++;
	for (char **each = own; *each; each++)
		room++;
	all = calloc(room, sizeof(*all));
	if (!all)
		return NULL;
	for (size_t at = 0; at < len; at += strlen(data + at) + 1)
		all[count++] = data + at;
	given = count;
	for (char **each = own; *each; each++)
		if (!environment_has(all, given, *each))
			all[count++] = *each;
	return all;
}

int environment_set(struct environment *e, const void *data, size_t len, bool *changed)
{
	char *copy, **all;

	*changed = len != e->len || (len > 0 && memcmp(data, e->data, len) != 0);
	if (!*changed)
		return 0;
	if (!e->own)
		e->own = environ;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	if (len > 0)
		memcpy(copy, data, len);
	all = environment_merge(copy, len, e->own);
	if (!all) {
		free(copy);
		return -ENOMEM;
	}
	environ = all;
	free(e->all);
	free(e->data);
	e->all = all;
	e->data = copy;
	e->len = len;
	return 0;
}
