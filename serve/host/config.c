/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of the function host's configuration (serve/host/config.h): tables that say what each may
 * be. A number in seconds is kept in milliseconds.
 */
#include "serve/host/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/config.h"
#include "serve/ipc/invocation.h"

#define TIMEOUT_MAX_S 86400

enum key_kind { KEY_COUNT, KEY_SECONDS, KEY_BOOL, KEY_TEXT, KEY_SIZE, KEY_OTHER };

struct key {
	const char *name;
	enum key_kind kind;
	size_t offset;
	uint32_t min, max; /* of KEY_COUNT */
	/* Of KEY_OTHER: sets it. where: for messages, "FILE: function x". */
	int (*set)(void *object, const char *where, const json_t *value);
};

static int set_text(char **member, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return failf(ENOMEM, "out of memory");
	free(*member);
	*member = copy;
	return 0;
}

static int set_key(void *object, const char *where, const struct key *key, const json_t *value)
{
	void *member = (char *)object + key->offset;
	double s;

	switch (key->kind) {
	case KEY_COUNT:
		if (!json_is_integer(value) || json_integer_value(value) < key->min ||
		    json_integer_value(value) > key->max)
			return failf(EINVAL,
				     "%s: key '%s': a whole number from %u to %u is allowed", where,
				     key->name, key->min, key->max);
		*(uint32_t *)member = (uint32_t)json_integer_value(value);
		return 0;
	case KEY_SECONDS:
		s = json_number_value(value);
		if (!json_is_number(value) || !(s >= 0.001) || s > TIMEOUT_MAX_S)
			return failf(EINVAL, "%s: key '%s': seconds from 0.001 to %d are allowed",
				     where, key->name, TIMEOUT_MAX_S);
		*(uint32_t *)member = (uint32_t)(s * 1000 + 0.5);
		return 0;
	case KEY_BOOL:
		if (!json_is_boolean(value))
			return failf(EINVAL, "%s: key '%s': true or false are allowed", where,
				     key->name);
		*(bool *)member = json_is_true(value);
		return 0;
	case KEY_TEXT:
		if (!json_is_string(value) || !json_string_value(value)[0])
			return failf(EINVAL, "%s: key '%s': must be a text", where, key->name);
		return set_text(member, json_string_value(value));
	case KEY_SIZE:
		if (!json_is_string(value) ||
		    config_parse_size(json_string_value(value), member) < 0 ||
		    *(uint64_t *)member < CONFIG_MEMORY_MIN ||
		    *(uint64_t *)member > CONFIG_MEMORY_MAX || *(uint64_t *)member % 4096)
			return failf(EINVAL,
				     "%s: key '%s': a size like \"128M\" is allowed, from %llu MiB "
				     "to %llu GiB, whole pages",
				     where, key->name, CONFIG_MEMORY_MIN >> 20,
				     CONFIG_MEMORY_MAX >> 30);
		return 0;
	case KEY_OTHER:
		break;
	}
	return key->set(object, where, value);
}

static int unknown_key(const char *where, const char *name, const struct key *keys)
{
	char known[160] = "";
	size_t at = 0;

	for (; keys->name && at < sizeof(known); keys++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at ? ", " : "",
				       keys->name);
	return failf(EINVAL, "%s: there is no key '%.64s'; there are: %s", where, name, known);
}

static int set_object(void *object, const char *where, const json_t *from, const struct key *keys)
{
	const char *name;
	json_t *value;
	int ret = 0;

	if (!json_is_object(from))
		return failf(EINVAL, "%s: must be an object", where);
	json_object_foreach((json_t *)(uintptr_t)from, name, value)
	{
		const struct key *key = keys;

		while (key->name && strcmp(key->name, name) != 0)
			key++;
		ret = key->name ? set_key(object, where, key, value)
				: unknown_key(where, name, keys);
		if (ret < 0)
			break;
	}
	return ret;
}

/* --- A function --- */

static int set_policy(void *object, const char *where, const json_t *value)
{
	struct function_config *f = object;
	const char *text = json_string_value(value);

	for (unsigned i = 0; text && i <= POLICY_KEEP; i++) {
		if (strcmp(text, policy_name((enum policy)i)) == 0) {
			f->policy = (enum policy)i;
			return 0;
		}
	}
	return failf(EINVAL, "%s: key 'policy': once, reset and keep are allowed", where);
}

static int set_environment(void *object, const char *where, const json_t *value)
{
	struct function_config *f = object;
	char text[INVOCATION_ENVIRONMENT_MAX];
	size_t at = 0;
	const char *name;
	json_t *each;

	if (!json_is_object(value))
		return failf(EINVAL, "%s: key 'environment': must be an object of texts", where);
	json_object_foreach((json_t *)(uintptr_t)value, name, each)
	{
		int n;

		if (!name[0] || strchr(name, '=') || !json_is_string(each))
			return failf(EINVAL,
				     "%s: key 'environment': '%s' must be a name without '=' and "
				     "its value a text",
				     where, name);
		n = snprintf(text + at, sizeof(text) - at, "%s=%s", name, json_string_value(each));
		if (n < 0 || (size_t)n + 1 > sizeof(text) - at)
			return failf(E2BIG, "%s: key 'environment': more than %u bytes in all",
				     where, INVOCATION_ENVIRONMENT_MAX);
		at += (size_t)n + 1;
	}
	free(f->environment);
	f->environment = malloc(at + 1);
	if (!f->environment)
		return failf(ENOMEM, "out of memory");
	memcpy(f->environment, text, at);
	f->environment_len = at;
	return 0;
}

static int set_function_pool(void *object, const char *where, const json_t *value)
{
	static const struct key keys[] = {
		{ "min", KEY_COUNT, offsetof(struct function_config, pool_min), 0, 4096, NULL },
		{ "max", KEY_COUNT, offsetof(struct function_config, pool_max), 0, 4096, NULL },
		{ "refill", KEY_COUNT, offsetof(struct function_config, pool_refill), 1, 100000,
		  NULL },
		{ 0 },
	};
	struct function_config *f = object;
	char place[256];
	int ret;

	snprintf(place, sizeof(place), "%s: pool", where);
	ret = set_object(f, place, value, keys);
	if (ret == 0 && f->pool_max < f->pool_min)
		ret = failf(EINVAL, "%s: 'max' is %u, less than 'min', %u", place, f->pool_max,
			    f->pool_min);
	return ret;
}

static const struct key function_keys[] = {
	{ "template", KEY_TEXT, offsetof(struct function_config, template), 0, 0, NULL },
	{ "memory", KEY_SIZE, offsetof(struct function_config, memory), 0, 0, NULL },
	{ "timeout", KEY_SECONDS, offsetof(struct function_config, timeout_ms), 0, 0, NULL },
	{ "concurrency", KEY_COUNT, offsetof(struct function_config, concurrency), 1, 4096, NULL },
	{ "queue", KEY_COUNT, offsetof(struct function_config, queue), 0, 4096, NULL },
	{ "policy", KEY_OTHER, 0, 0, 0, set_policy },
	{ "idle_timeout", KEY_SECONDS, offsetof(struct function_config, idle_timeout_ms), 0, 0,
	  NULL },
	{ "json", KEY_BOOL, offsetof(struct function_config, json), 0, 0, NULL },
	{ "environment", KEY_OTHER, 0, 0, 0, set_environment },
	{ "pool", KEY_OTHER, 0, 0, 0, set_function_pool },
	{ 0 },
};

/* --- The host --- */

static int add_function(struct host_config *c, const char *where, const char *name,
			const json_t *value)
{
	struct function_config *f = &c->functions[c->function_count];
	char place[256];
	int ret;

	snprintf(place, sizeof(place), "%s: function '%.64s'", where, name);
	if (!function_name_valid(name, strlen(name)))
		return failf(EINVAL,
			     "%s: letters, digits, '-' and '_' make a name, 64 of them at most",
			     place);
	ret = function_config_init(f, name, NULL);
	if (ret < 0)
		return ret;
	c->function_count++;
	return set_object(f, place, value, function_keys);
}

static int set_functions(void *object, const char *where, const json_t *value)
{
	struct host_config *c = object;
	const char *name;
	json_t *each;
	int ret = 0;

	if (!json_is_object(value) || json_object_size(value) > HOST_FUNCTIONS_MAX)
		return failf(EINVAL, "%s: key 'functions': must be an object of at most %u", where,
			     HOST_FUNCTIONS_MAX);
	/* One more, for the embedded guest. */
	c->functions = calloc(json_object_size(value) + 1, sizeof(*c->functions));
	if (!c->functions)
		return failf(ENOMEM, "out of memory");
	c->all = false;
	json_object_foreach((json_t *)(uintptr_t)value, name, each)
	{
		ret = add_function(c, where, name, each);
		if (ret < 0)
			break;
	}
	return ret;
}

static int add_listen(struct host_config *c, const char *where, const json_t *value)
{
	if (!json_is_string(value) || c->listen_count == HOST_LISTEN_MAX)
		return failf(EINVAL, "%s: key 'listen': an address or up to %u of them are allowed",
			     where, HOST_LISTEN_MAX);
	return set_text(&c->listen[c->listen_count++], json_string_value(value));
}

static int set_listen(void *object, const char *where, const json_t *value)
{
	int ret = 0;

	if (!json_is_array(value))
		return add_listen(object, where, value);
	for (size_t i = 0; ret == 0 && i < json_array_size(value); i++)
		ret = add_listen(object, where, json_array_get(value, i));
	return ret;
}

static const struct key host_keys[] = {
	{ "listen", KEY_OTHER, 0, 0, 0, set_listen },
	{ "store", KEY_TEXT, offsetof(struct host_config, store), 0, 0, NULL },
	{ "builtin", KEY_BOOL, offsetof(struct host_config, builtin), 0, 0, NULL },
	{ "shells", KEY_COUNT, offsetof(struct host_config, shells), 1, 8192, NULL },
	{ "bare", KEY_COUNT, offsetof(struct host_config, bare), 0, 1024, NULL },
	{ "refill", KEY_COUNT, offsetof(struct host_config, refill), 1, 100000, NULL },
	{ "functions", KEY_OTHER, 0, 0, 0, set_functions },
	{ 0 },
};

/* What no key can say by itself: each function has its template, the embedded guest its name. */
static int host_config_complete(struct host_config *c, const char *where)
{
	bool builtin = false;

	for (unsigned i = 0; i < c->function_count; i++) {
		struct function_config *f = &c->functions[i];

		if (c->builtin && strcmp(f->name, HOST_BUILTIN) == 0) {
			builtin = true;
			if (f->template)
				return failf(EINVAL,
					     "%s: function 'builtin' is the embedded guest and has "
					     "no template; say \"builtin\": false to use the name",
					     where);
		} else if (!f->template && set_text(&f->template, f->name) < 0) {
			return -ENOMEM;
		}
		for (size_t len = strlen(f->template ? f->template : "");
		     len > 1 && f->template[len - 1] == '/'; len--)
			f->template[len - 1] = '\0';
	}
	if (!c->builtin || builtin)
		return 0;
	if (!c->functions)
		c->functions = calloc(1, sizeof(*c->functions));
	if (!c->functions)
		return failf(ENOMEM, "out of memory");
	return function_config_init(&c->functions[c->function_count++], HOST_BUILTIN, NULL);
}

void host_config_init(struct host_config *config)
{
	*config = (struct host_config){
		.builtin = true,
		.all = true,
		.shells = 512,
		.bare = 2,
		.refill = 1000,
	};
}

void host_config_fini(struct host_config *config)
{
	for (unsigned i = 0; i < config->listen_count; i++)
		free(config->listen[i]);
	for (unsigned i = 0; i < config->function_count; i++)
		function_config_fini(&config->functions[i]);
	free(config->functions);
	free(config->store);
	*config = (struct host_config){ 0 };
}

int host_config_read(struct host_config *config, const char *path)
{
	json_error_t error;
	json_t *object;
	FILE *file;
	int ret = 0;

	if (!path)
		return host_config_complete(config, "the configuration");
	file = fopen(path, "re");
	if (!file)
		return failf(errno, "%s: cannot be opened: %s", path, strerror(errno));
	object = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
	if (!object)
		ret = ferror(file) ? failf(EIO, "%s: cannot be read", path)
				   : failf(EINVAL, "%s: line %d: %s", path, error.line, error.text);
	fclose(file);
	if (ret == 0)
		ret = set_object(config, path, object, host_keys);
	json_decref(object);
	return ret < 0 ? ret : host_config_complete(config, path);
}
