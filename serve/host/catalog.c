/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions and their templates (serve/host/catalog.h). Templates are loaded by children, two at a
 * time; a version takes the place of the one before when it is whole, and requests that run
 * finish on theirs.
 */
#include "serve/host/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/template/loader.h"
#include "serve/template/store.h"

#define CATALOG_LOADS     2u     /* at once */
#define CATALOG_SETTLE_US 50000u /* after a change in the store */

struct catalog_load {
	struct catalog_load *next;
	struct catalog *catalog;
	struct loader loader;
	bool running;
	char *template; /* owned: as the functions name it; NULL: the embedded guest */
	char *path;     /* owned; NULL likewise */
	uint64_t memory;
};

/* --- Loading --- */

static bool catalog_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void catalog_load_free(struct catalog_load *load)
{
	struct catalog_load **at = &load->catalog->loads;

	while (*at != load)
		at = &(*at)->next;
	*at = load->next;
	loader_stop(&load->loader);
	free(load->template);
	free(load->path);
	free(load);
}

/* What a load means to a function that wants it. */
static void catalog_apply(struct catalog *c, struct function *f, struct function_version *v,
			  const char *error)
{
	char text[400];

	f->loading = false;
	if (v && f->config.memory && f->config.memory != v->memory_size) {
		snprintf(text, sizeof(text),
			 "function %s: its template %s has %llu MiB of memory, the configuration "
			 "says %llu; make them agree",
			 f->config.name, v->name, (unsigned long long)v->memory_size >> 20,
			 (unsigned long long)f->config.memory >> 20);
		error = text;
		v = NULL;
	}
	if (v && f->config.policy == POLICY_RESET && v->no_reset[0]) {
		snprintf(text, sizeof(text), "its template %s is not for policy reset: %s", v->name,
			 v->no_reset);
		error = text;
		v = NULL;
		/* Nor may the one be that it has by the policy from before: it is often the same. */
		if (f->version && f->version->no_reset[0])
			function_set_version(c->pool, f, NULL);
	}
	if (v && (!f->version || strcmp(f->version->tag, v->tag) != 0)) {
		if (f->version)
			notef("function %s: version %s in place of %s", f->config.name, v->tag,
			      f->version->tag);
		v->users++;
		function_set_version(c->pool, f, v);
	} else if (!v && f->version) {
		notef("function %s keeps version %s: %s", f->config.name, f->version->tag, error);
	} else if (!v && c->first && f->listed) {
		c->first_builtin = !f->config.template;
		snprintf(c->first_error, sizeof(c->first_error), "function %s: %s", f->config.name,
			 error);
	} else if (!v) {
		notef("function %s cannot be served: %s", f->config.name, error);
	}
}

static void catalog_pump(struct catalog *c);

static void catalog_loaded(void *opaque, struct sealed *sealed, const char *error)
{
	struct catalog_load *load = opaque;
	struct catalog *c = load->catalog;
	struct function_version *v = NULL;

	if (sealed) {
		v = function_version_new(c->pool, sealed, load->path ? load->path : HOST_BUILTIN);
		error = v ? NULL : error_text();
	}
	for (struct function *f = c->pool->functions; f; f = f->next)
		if (!f->removed && catalog_same(f->config.template, load->template))
			catalog_apply(c, f, v, error);
	if (v && c->first)
		c->ready(c->opaque);
	function_version_put(c->pool, v);
	c->running--;
	catalog_load_free(load);
	catalog_pump(c);
}

/* One of the same is under way: the newer must not be overtaken by it. */
static bool catalog_is_loading(const struct catalog *c, const struct catalog_load *load)
{
	for (const struct catalog_load *other = c->loads; other; other = other->next)
		if (other->running && catalog_same(other->template, load->template))
			return true;
	return false;
}

static void catalog_pump(struct catalog *c)
{
	struct catalog_load *next;

	for (struct catalog_load *load = c->loads; load; load = next) {
		struct loader_source source = { .path = load->path, .memory = load->memory };

		next = load->next;
		if (load->running || c->running == CATALOG_LOADS || catalog_is_loading(c, load))
			continue;
		load->running = true;
		c->running++;
		if (loader_start(&load->loader, &source) < 0) {
			catalog_loaded(load, NULL, error_text());
			return;
		}
	}
	if (c->first && !c->loads) {
		c->first = false;
		c->loaded(c->opaque, c->first_error[0] ? c->first_error : NULL);
		if (c->again)
			catalog_refresh(c);
	}
}

/* One that is to come for the template of f, whose settings may be others by now. */
static struct catalog_load *catalog_queued(const struct catalog *c, const struct function *f)
{
	struct catalog_load *load = c->loads;

	while (load && (load->running || !catalog_same(load->template, f->config.template)))
		load = load->next;
	return load;
}

/* Has the template of f loaded. */
static int catalog_want(struct catalog *c, const struct function *f)
{
	struct catalog_load **at = &c->loads, *load = calloc(1, sizeof(*load)),
			    *queued = catalog_queued(c, f);

	if (!load)
		return failf(ENOMEM, "out of memory");
	while (*at)
		at = &(*at)->next;
	*load = (struct catalog_load){ .catalog = c, .memory = f->config.memory };
	load->loader = (struct loader){ .loop = c->loop,
					.timers = c->timers,
					.child.fd = -1,
					.done = catalog_loaded,
					.opaque = load };
	*at = load;
	if (f->config.template) {
		load->template = strdup(f->config.template);
		if (!load->template ||
		    template_store_path(c->store, load->template, false, &load->path) < 0) {
			catalog_load_free(load);
			return -EINVAL;
		}
	}
	if (queued)
		catalog_load_free(queued);
	return 0;
}

static void catalog_load_stale(struct catalog *c)
{
	for (struct function *f = c->pool->functions; f; f = f->next) {
		if (!f->stale || f->removed)
			continue;
		f->stale = false;
		f->loading = true;
		if (catalog_want(c, f) < 0)
			catalog_apply(c, f, NULL, error_text());
	}
	catalog_pump(c);
}

/* --- Functions --- */

/* One of the configuration, new or with new settings; config is moved. */
static int catalog_add(struct catalog *c, struct function_config *config, bool listed)
{
	struct function *f = function_find(c->pool, config->name, strlen(config->name));
	/* The embedded guest is as it was, unless it is to have other memory. */
	bool same = f && f->version && !f->config.template && !config->template &&
		    f->config.memory == config->memory;

	if (f)
		function_configure(c->pool, f, config);
	else
		f = function_new(c->pool, config);
	if (!f)
		return -ENOMEM;
	f->stale = !same;
	f->listed = listed;
	return 0;
}

/* A template of the store that no function of the configuration has the name of. */
static int catalog_add_template(struct catalog *c, const char *name)
{
	struct function *f = function_find(c->pool, name, strlen(name));
	struct function_config config;
	int ret;

	if (f) {
		f->stale = true;
		return 0;
	}
	ret = function_config_init(&config, name, name);
	return ret < 0 ? ret : catalog_add(c, &config, false);
}

/* Whether an entry of the store is one that can be a function. */
static bool catalog_is_template(const struct catalog *c, const char *name)
{
	bool is = function_name_valid(name, strlen(name));
	char *path = NULL;

	if (is && template_store_path(c->store, name, false, &path) == 0)
		is = template_store_holds(name, path);
	free(path);
	return is;
}

/* What is in the store; `.tmp` has a dot and is no name of a function. */
static void catalog_scan(struct catalog *c)
{
	struct dirent *entry;
	char *path;
	DIR *dir;

	if (template_store_dir(c->store, false, &path) < 0)
		return;
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL)
		if (catalog_is_template(c, entry->d_name) &&
		    catalog_add_template(c, entry->d_name) < 0)
			notef("%s: %s", entry->d_name, error_text());
	if (dir)
		closedir(dir);
	free(path);
}

/* --- Changes in the store --- */

static const char *catalog_last(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void catalog_settled(void *opaque)
{
	catalog_load_stale(opaque);
}

static void catalog_changed(struct catalog *c, const char *name)
{
	bool known = false;

	for (struct function *f = c->pool->functions; f; f = f->next)
		if (!f->removed && f->config.template &&
		    strcmp(catalog_last(f->config.template), name) == 0)
			known = f->stale = true;
	if (!known && c->all && catalog_is_template(c, name) && catalog_add_template(c, name) < 0)
		notef("%s: %s", name, error_text());
	timer_set(c->timers, &c->settle, monotonic_us() + CATALOG_SETTLE_US);
}

/* Only what gets a name is looked at: a template that is removed is served on from memory. */
static void catalog_event(void *opaque, uint32_t events)
{
	_Alignas(struct inotify_event) char buffer[4096];
	struct catalog *c = opaque;
	ssize_t len = read(c->inotify_fd, buffer, sizeof(buffer));

	(void)events;
	for (ssize_t at = 0; at < len;) {
		const struct inotify_event *event = (const void *)(buffer + at);

		if (event->mask & IN_Q_OVERFLOW) { /* who knows what changed */
			catalog_refresh(c);
			return;
		}
		if (event->len)
			catalog_changed(c, event->name);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

static void catalog_watch_dir(struct catalog *c, const char *path)
{
	if (inotify_add_watch(c->inotify_fd, path, IN_MOVED_TO | IN_ONLYDIR) < 0)
		notef("%s: changes are not noticed (%s); SIGHUP has templates looked at anew", path,
		      strerror(errno));
}

/* The directories that templates given as DIR lie in. */
static void catalog_watch_parents(struct catalog *c)
{
	for (const struct function *f = c->pool->functions; f && c->inotify_fd >= 0; f = f->next) {
		const char *template = f->config.template;
		char parent[PATH_MAX];

		if (!template || !strchr(template, '/'))
			continue;
		snprintf(parent, sizeof(parent), "%.*s", (int)(catalog_last(template) - template),
			 template);
		catalog_watch_dir(c, parent);
	}
}

static void catalog_watch_stop(struct catalog *c)
{
	loop_remove(c->loop, c->watch);
	c->watch = NULL;
	if (c->inotify_fd >= 0)
		close(c->inotify_fd);
	c->inotify_fd = -1;
}

/* Begins anew, with the store. */
static int catalog_watch_start(struct catalog *c)
{
	char *path;

	catalog_watch_stop(c);
	c->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (c->inotify_fd < 0) {
		notef("changes in the store are not noticed (inotify: %s); SIGHUP has templates "
		      "looked at anew",
		      strerror(errno));
		return 0;
	}
	c->watch = loop_add(c->loop, c->inotify_fd, EPOLLIN, catalog_event, c);
	if (!c->watch)
		return -ENOMEM;
	if (template_store_dir(c->store, false, &path) == 0) {
		catalog_watch_dir(c, path);
		free(path);
	}
	return 0;
}

/* --- The configuration --- */

static void catalog_check_pools(const struct host_config *config)
{
	uint64_t armed = 0;

	for (unsigned i = 0; i < config->function_count; i++)
		armed += config->functions[i].pool_min;
	if (armed > config->shells)
		notef("the functions' pools want %llu shells at least, key 'shells' allows %u: not "
		      "all will have what they want",
		      (unsigned long long)armed, config->shells);
}

/* Makes it so. The functions of config are moved. */
static int catalog_configure(struct catalog *c, struct host_config *config)
{
	int ret = 0;

	catalog_check_pools(config);

	/* Which ones are gone shows when all that are there have been marked. */
	for (struct function *f = c->pool->functions; f; f = f->next)
		f->listed = false;
	c->all = config->all;
	if (!c->named_store) {
		free(c->store_name);
		c->store_name = config->store;
		config->store = NULL;
		c->store = c->store_name;
	}
	/* First, so that nothing comes between a look and the watch. */
	if (catalog_watch_start(c) < 0)
		notef("changes in the store are not noticed: %s", error_text());
	for (unsigned i = 0; ret == 0 && i < config->function_count; i++)
		ret = catalog_add(c, &config->functions[i], true);
	if (ret == 0 && c->all)
		catalog_scan(c);
	catalog_watch_parents(c);
	return ret;
}

/* --- Life --- */

int catalog_start(struct catalog *c, struct loop *loop, struct timers *timers)
{
	int ret;

	c->loop = loop;
	c->timers = timers;
	c->store = c->named_store;
	c->settle = (struct timer){ .expired = catalog_settled, .opaque = c };
	c->inotify_fd = -1;
	c->first = true;
	ret = catalog_configure(c, c->config);
	if (ret < 0)
		return ret;
	catalog_load_stale(c);
	return 0;
}

void catalog_refresh(struct catalog *c)
{
	struct host_config config;
	int ret;

	c->again = c->first;
	if (c->stopped || c->first)
		return;
	host_config_init(&config);
	ret = host_config_read(&config, c->config_file);
	if (ret == 0)
		ret = catalog_configure(c, &config);
	host_config_fini(&config);
	if (ret < 0) {
		notef("the configuration is not read again: %s", error_text());
		return;
	}
	for (struct function *f = c->pool->functions; f; f = f->next)
		if (!f->removed && !f->listed && !f->stale)
			function_remove(c->pool, f);
	function_sweep(c->pool);
	notef("the configuration was read again; templates are looked at anew");
	catalog_load_stale(c);
}

void catalog_stop(struct catalog *c)
{
	struct catalog_load *next;

	c->stopped = true;
	for (struct catalog_load *load = c->loads; load; load = next) {
		next = load->next;
		catalog_load_free(load);
	}
	if (!c->timers)
		return;
	timer_clear(c->timers, &c->settle);
	catalog_watch_stop(c);
	free(c->store_name);
	c->store_name = NULL;
}
