/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of templates (serve/template/store.h).
 */
#include "serve/template/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"

#define STORE_DIR_MODE 0700

/* --- Names --- */

/* A name that is one path component and can have .tmp behind it. */
static int store_check_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t len = strlen(name);

	if (!len || len > 200 || name[0] == '.' || strspn(name, letters) != len ||
	    template_store_is_tmp(name))
		return failf(EINVAL,
			     "'%.200s' is not a name for a template: letters, digits, '.', '_' and "
			     "'-', no '.' first, no '.tmp' last; a directory has a '/' in it",
			     name);
	return 0;
}

/* The store's own path, the caller's to free; NULL with a sentence. */
static char *store_dir(const char *store)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int ret = -1;

	if (store)
		ret = asprintf(&path, "%s", store);
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

int template_store_dir(const char *store, bool make, char **path)
{
	int ret = 0;

	*path = store_dir(store);
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

int template_store_path(const char *store, const char *name, bool make, char **path)
{
	char *dir;
	int ret;

	*path = NULL;
	if (strchr(name, '/')) {
		*path = strdup(name);
		return *path ? 0 : failf(ENOMEM, "out of memory");
	}
	ret = store_check_name(name);
	if (ret < 0)
		return ret;
	ret = template_store_dir(store, make, &dir);
	if (ret < 0)
		return ret;
	if (asprintf(path, "%s/%s", dir, name) < 0) {
		*path = NULL;
		ret = failf(ENOMEM, "out of memory");
	}
	free(dir);
	return ret;
}

/* --- All of them --- */

static int store_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int template_store_each(const char *store,
			int (*visit)(void *opaque, const char *name, const char *path),
			void *opaque)
{
	char *dir = store_dir(store), *path;
	struct dirent **entries = NULL;
	int count, largest = 0;

	if (!dir)
		return -ENOENT;
	count = scandir(dir, &entries, store_visible, alphasort);
	if (count < 0 && errno != ENOENT)
		largest = failf(errno, "the store %s cannot be read: %s", dir, strerror(errno));
	for (int i = 0; i < count; i++) {
		int one;

		if (largest >= 0 && asprintf(&path, "%s/%s", dir, entries[i]->d_name) >= 0) {
			one = visit(opaque, entries[i]->d_name, path);
			free(path);
			largest = one > largest ? one : largest;
		} else if (largest >= 0) {
			largest = failf(ENOMEM, "out of memory");
		}
		free(entries[i]);
	}
	free(entries);
	free(dir);
	return largest;
}

bool template_store_is_tmp(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}
