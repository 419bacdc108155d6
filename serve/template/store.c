/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of templates (serve/template/store.h).
 */
#include "serve/template/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/files.h"

#define STORE_DIR_MODE 0700
#define STORE_LETTERS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* --- Names --- */

/* A name that is one path component and can have .tmp behind it. */
static int store_check_name(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > 200 || name[0] == '.' || strspn(name, STORE_LETTERS) != len ||
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

/* What lies in the store and is no template. */
struct store_others {
	size_t len;
	char names[160]; /* of the first few */
	unsigned more;
};

static int store_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

bool template_store_holds(const char *name, const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool holds = fd >= 0 && template_store_is_tmp(name);

	for (unsigned i = 0; fd >= 0 && !holds && i < SNAPSHOT_FILES; i++)
		holds = faccessat(fd, snapshot_files[i].name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
			errno != ENOENT;
	if (fd >= 0)
		close(fd);
	return holds && strspn(name, STORE_LETTERS) == strlen(name);
}

static void store_pass_over(struct store_others *others, const char *name)
{
	size_t room = sizeof(others->names) - others->len;
	int n = snprintf(others->names + others->len, room, "%s%s", others->len ? ", " : "", name);

	if (!others->more && n > 0 && (size_t)n < room) {
		others->len += (size_t)n;
		return;
	}
	others->names[others->len] = '\0';
	others->more++;
}

static void store_say_others(const char *dir, struct store_others *others)
{
	char more[32] = "";

	if (!others->len && !others->more)
		return;
	text_clean(others->names);
	if (others->more)
		snprintf(more, sizeof(more), " and %u more", others->more);
	notef("the store %s: passed over, being no templates: %s%s", dir, others->names, more);
}

/* One entry, whose name is freed. */
static int store_each_one(const char *dir, struct dirent *entry, struct store_others *others,
			  int (*visit)(void *opaque, const char *name, const char *path),
			  void *opaque)
{
	char *path;
	int ret = 0;

	if (asprintf(&path, "%s/%s", dir, entry->d_name) < 0)
		return failf(ENOMEM, "out of memory");
	if (template_store_holds(entry->d_name, path))
		ret = visit(opaque, entry->d_name, path);
	else
		store_pass_over(others, entry->d_name);
	free(path);
	return ret;
}

int template_store_each(const char *store,
			int (*visit)(void *opaque, const char *name, const char *path),
			void *opaque)
{
	struct store_others others = { 0 };
	struct dirent **entries = NULL;
	char *dir = store_dir(store);
	int count, largest = 0;

	if (!dir)
		return -ENOENT;
	count = scandir(dir, &entries, store_visible, alphasort);
	if (count < 0 && errno != ENOENT)
		largest = failf(errno, "the store %s cannot be read: %s", dir, strerror(errno));
	for (int i = 0; i < count; i++) {
		int one = largest < 0 ? largest
				      : store_each_one(dir, entries[i], &others, visit, opaque);

		largest = one < 0 || one > largest ? one : largest;
		free(entries[i]);
	}
	if (largest >= 0)
		store_say_others(dir, &others);
	free(entries);
	free(dir);
	return largest;
}

bool template_store_is_tmp(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}
