/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of templates (serve/template/store.h).
 */
#include "serve/template/store.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"

#define STORE_DIR_MODE 0700
#define STATUS_HOST    1
#define STATUS_BAD     2

/* --- Names --- */

/* A name that is one path component and can have .tmp behind it. */
static int store_check_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t len = strlen(name);

	if (!len || len > 200 || name[0] == '.' || strspn(name, letters) != len ||
	    (len > 4 && strcmp(name + len - 4, ".tmp") == 0))
		return failf(EINVAL,
			     "'%.200s' is not a name for a template: letters, digits, '.', '_' and "
			     "'-', no '.' first, no '.tmp' last; a directory has a '/' in it",
			     name);
	return 0;
}

/* The store's own path, the caller's to free; NULL with a sentence. */
static char *store_dir(const struct options *options)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int ret = -1;

	if (options->store)
		ret = asprintf(&path, "%s", options->store);
	else if (data && data[0] == '/')
		ret = asprintf(&path, "%s/virga", data);
	else if (home && home[0] == '/')
		ret = asprintf(&path, "%s/.local/share/virga", home);
	else
		return failf(ENOENT, "no store of templates: neither XDG_DATA_HOME nor HOME is "
				     "set; name one with --store DIR"),
		       NULL;
	return ret < 0 ? failf(ENOMEM, "out of memory"), NULL : path;
}

/* mkdir -p */
static int store_make(const char *path)
{
	char *copy = strdup(path);
	int ret = copy ? 0 : failf(ENOMEM, "out of memory");

	for (char *p = copy; ret == 0 && p;) {
		p = strchr(p + 1, '/');
		if (p)
			*p = '\0';
		if (mkdir(copy, STORE_DIR_MODE) < 0 && errno != EEXIST)
			ret = failf(errno, "the store %s: %s cannot be made: %s", path, copy,
				    strerror(errno));
		if (p)
			*p = '/';
	}
	free(copy);
	return ret;
}

int template_store_dir(const struct options *options, bool make, char **path)
{
	int ret = 0;

	*path = store_dir(options);
	if (!*path)
		return -ENOENT;
	if (make)
		ret = store_make(*path);
	if (ret == 0)
		return 0;
	free(*path);
	*path = NULL;
	return ret;
}

int template_store_path(const struct options *options, const char *name, bool make, char **path)
{
	char *store;
	int ret;

	*path = NULL;
	if (strchr(name, '/')) {
		*path = strdup(name);
		return *path ? 0 : failf(ENOMEM, "out of memory");
	}
	ret = store_check_name(name);
	if (ret < 0)
		return ret;
	ret = template_store_dir(options, make, &store);
	if (ret < 0)
		return ret;
	if (asprintf(path, "%s/%s", store, name) < 0) {
		*path = NULL;
		ret = failf(ENOMEM, "out of memory");
	}
	free(store);
	return ret;
}

/* --- All of them --- */

static int store_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/*
 * Calls visit for each entry of the store, by name, with its path. The largest status of all; 0 for
 * a store that is not there.
 */
static int store_each(const struct options *options, const char *command,
		      int (*visit)(const struct options *options, const char *name,
				   const char *path))
{
	char *store = store_dir(options), *path;
	struct dirent **entries = NULL;
	int count = store ? scandir(store, &entries, store_visible, alphasort) : 0, status = 0;

	if (!store || (count < 0 && errno != ENOENT)) {
		if (store)
			failf(errno, "the store %s cannot be read: %s", store, strerror(errno));
		notef("%s: %s", command, error_text());
		status = STATUS_HOST;
	}
	for (int i = 0; i < count; i++) {
		int one = STATUS_HOST;

		if (asprintf(&path, "%s/%s", store, entries[i]->d_name) >= 0) {
			one = visit(options, entries[i]->d_name, path);
			free(path);
		}
		status = one > status ? one : status;
		free(entries[i]);
	}
	free(entries);
	free(store);
	return status;
}

static bool store_is_tmp(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}

/* --- list --- */

static void store_print_json(const char *name, const struct snapshot *s, const char *version,
			     const struct template_facts *facts)
{
	const struct working_set *ws = &s->working_set;
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:I, s:o, s:o, s:I, s:I}", "name", name, "path", s->path,
		"version", version, "memory_bytes", (json_int_t)s->memory_size, "ready_us",
		facts->known ? json_integer((json_int_t)facts->ready_us) : json_null(), "built_s",
		facts->known ? json_integer((json_int_t)facts->built_s) : json_null(),
		"written_pages", (json_int_t)ws->written_pages, "read_pages",
		(json_int_t)ws->read_pages);
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	printf("%s\n", text ? text : "null");
	free(text);
	json_decref(object);
}

static void store_print(const char *name, const struct snapshot *s, const char *version,
			const struct template_facts *facts)
{
	char ready[32] = "-";

	if (facts->known)
		snprintf(ready, sizeof(ready), "%.4g ms", (double)facts->ready_us / 1e3);
	printf("%-24s %-12s %7.6g MiB %10s %6u %6u %s\n", name, version,
	       (double)s->memory_size / 1048576, ready, s->working_set.written_pages,
	       s->working_set.read_pages, s->path);
}

static int store_list_one(const struct options *options, const char *name, const char *path)
{
	char version[SNAPSHOT_VERSION_LEN + 1];
	struct template_facts facts;
	struct snapshot snapshot;

	if (store_is_tmp(name))
		return 0;
	if (snapshot_open_template(&snapshot, &facts, path) < 0) {
		notef("template list: %s", error_text());
		return STATUS_HOST;
	}
	snapshot_version(&snapshot, version);
	if (options->json)
		store_print_json(name, &snapshot, version, &facts);
	else
		store_print(name, &snapshot, version, &facts);
	snapshot_close(&snapshot);
	return 0;
}

int template_list_command(const struct options *options)
{
	if (!options->json)
		printf("%-24s %-12s %11s %10s %6s %6s %s\n", "template", "version", "memory",
		       "ready", "writes", "reads", "where");
	return store_each(options, "template list", store_list_one);
}

/* --- check --- */

/* What a dead builder left goes; what a living one has is left alone. */
static int store_sweep(const char *path)
{
	int ret = snapshot_dir_sweep(path);

	if (ret == 0 || ret == -EBUSY)
		return 0;
	notef("template check: %s", error_text());
	return STATUS_HOST;
}

static int store_check_one(const struct options *options, const char *name, const char *path)
{
	struct template_facts facts;
	struct snapshot snapshot;
	int ret;

	(void)options;
	if (store_is_tmp(name)) {
		char *whole = strndup(path, strlen(path) - 4);

		ret = whole ? store_sweep(whole) : STATUS_HOST;
		free(whole);
		return ret;
	}
	ret = snapshot_open_template(&snapshot, &facts, path);
	if (ret == 0) {
		ret = snapshot_verify(&snapshot);
		snapshot_close(&snapshot);
	}
	if (ret < 0)
		notef("template check: %s", error_text());
	else
		printf("%s: whole\n", name);
	return ret < 0 ? STATUS_HOST : 0;
}

int template_check_command(const struct options *options)
{
	char *path;
	int status;

	if (!options->args[0])
		return store_each(options, "template check", store_check_one);
	if (template_store_path(options, options->args[0], false, &path) < 0) {
		notef("template check: %s", error_text());
		return STATUS_BAD;
	}
	status = store_sweep(path);
	if (status == 0)
		status = store_check_one(options, options->args[0], path);
	free(path);
	return status;
}

/* --- rm --- */

int template_rm_command(const struct options *options)
{
	char *path;
	int ret = template_store_path(options, options->args[0], false, &path);

	if (ret == 0) {
		ret = snapshot_dir_sweep(path);
		if (ret == 0)
			ret = snapshot_dir_delete(path);
		free(path);
	}
	if (ret < 0)
		notef("template rm: %s", error_text());
	return ret < 0 ? STATUS_HOST : 0;
}
