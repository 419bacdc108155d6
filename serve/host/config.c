/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function host's configuration as tables of keys (serve/host/config.h).
 */
#include "serve/host/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/base/keys.h"
#include "arch/memory.h"
#include "serve/http/framing.h"
#include "serve/ipc/invocation.h"

#define CONFIG_PATH_MAX 4095u
#define HOST_MEMORY_MIN (16ull << 20)
#define HOST_MEMORY_MAX (1ull << 50)

/* --- A function --- */

static int set_environment(const struct key *key, void *object, const char *where,
			   const json_t *value)
{
	struct function_config *f = object;
	char text[INVOCATION_ENVIRONMENT_MAX];
	size_t at = 0;
	const char *name;
	json_t *each;

	(void)key;
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

static const struct key pool_keys[] = {
	KEY_COUNT(struct function_config, pool_min, "min", 0, 4096),
	KEY_COUNT(struct function_config, pool_max, "max", 0, 4096),
	KEY_COUNT(struct function_config, pool_refill, "refill", 1, 100000),
	KEY_END,
};

static int set_function_pool(const struct key *key, void *object, const char *where,
			     const json_t *value)
{
	struct function_config *f = object;
	char place[256];
	int ret;

	(void)key;
	snprintf(place, sizeof(place), "%s: pool", where);
	ret = keys_set_json(pool_keys, f, place, value);
	if (ret == 0 && f->pool_max < f->pool_min)
		ret = failf(EINVAL, "%s: 'max' is %u, less than 'min', %u", place, f->pool_max,
			    f->pool_min);
	return ret;
}

static const struct key function_keys[] = {
	KEY_TEXT(struct function_config, template, "template", 1, CONFIG_PATH_MAX),
	KEY_SIZE(struct function_config, memory, "memory", MEMORY_MIN, MEMORY_MAX),
	KEY_SECONDS(struct function_config, timeout_ms, "timeout"),
	KEY_COUNT(struct function_config, concurrency, "concurrency", 1, 4096),
	KEY_COUNT(struct function_config, queue, "queue", 0, 4096),
	KEY_WORD(struct function_config, policy, "policy", policy_names),
	KEY_SECONDS(struct function_config, idle_timeout_ms, "idle_timeout"),
	KEY_BOOL(struct function_config, json, "json"),
	KEY_OTHER("environment", set_environment),
	KEY_OTHER("pool", set_function_pool),
	KEY_END,
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
	return keys_set_json(function_keys, f, place, value);
}

static int set_functions(const struct key *key, void *object, const char *where,
			 const json_t *value)
{
	struct host_config *c = object;
	const char *name;
	json_t *each;
	int ret = 0;

	(void)key;
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

static const struct key host_keys[] = {
	KEY_LIST(struct host_config, listen, listen_count, "listen"),
	KEY_LIST(struct host_config, hosts.names, hosts.count, "hosts"),
	KEY_TEXT(struct host_config, store, "store", 1, CONFIG_PATH_MAX),
	KEY_BOOL(struct host_config, builtin, "builtin"),
	KEY_COUNT(struct host_config, shells, "shells", 1, 8192),
	KEY_COUNT(struct host_config, bare, "bare", 0, 1024),
	KEY_COUNT(struct host_config, refill, "refill", 1, 100000),
	KEY_SIZE(struct host_config, memory_total, "memory_total", HOST_MEMORY_MIN,
		 HOST_MEMORY_MAX),
	KEY_OTHER("functions", set_functions),
	KEY_END,
};

/* What a client says is compared without its port. */
static int host_config_check_names(const struct host_config *c, const char *where)
{
	for (unsigned i = 0; i < c->hosts.count; i++) {
		const char *name = c->hosts.names[i];
		size_t len = strlen(name);

		if (!len || !framing_is_host(name, len) || (name[0] != '[' && strchr(name, ':')))
			return failf(EINVAL,
				     "%s: key 'hosts': '%.64s' is no name of a machine; say it "
				     "without scheme and port",
				     where, name);
	}
	return 0;
}

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
		} else if (!f->template && !(f->template = strdup(f->name))) {
			return failf(ENOMEM, "out of memory");
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

/* Bytes, or 0 where it is not told. */
static uint64_t host_memory_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib << 10;
}

void host_config_init(struct host_config *config)
{
	*config = (struct host_config){
		.builtin = true,
		.all = true,
		.shells = 512,
		.bare = 2,
		.refill = 1000,
		.memory_total = host_memory_available() / 4 * 3,
	};
}

void host_config_fini(struct host_config *config)
{
	for (unsigned i = 0; i < config->function_count; i++)
		function_config_fini(&config->functions[i]);
	free(config->functions);
	keys_fini(host_keys, config);
	*config = (struct host_config){ 0 };
}

int host_config_read(struct host_config *config, const char *path)
{
	json_t *object;
	int ret;

	if (!path)
		return host_config_complete(config, "the configuration");
	ret = keys_read(path, &object);
	if (ret == 0)
		ret = keys_set_json(host_keys, config, path, object);
	json_decref(object);
	if (ret == 0)
		ret = host_config_check_names(config, path);
	return ret < 0 ? ret : host_config_complete(config, path);
}
