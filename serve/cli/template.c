/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of `virga template`: build, list, check, rm, export, import (serve/cli/command.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "serve/cli/command.h"
#include "serve/cli/input.h"
#include "serve/template/build.h"
#include "serve/template/store.h"
#include "serve/template/transport.h"
#include "vmm.h"

/* Says the stored sentence; the status for a failure that is the host's, or bad input. */
static int template_failed(const char *verb, bool host)
{
	notef("template %s: %s", verb, error_text());
	return host ? STATUS_HOST : STATUS_BAD_INPUT;
}

/* --- build --- */

/* The requests of --warm-request; without one, the empty request, as `invoke` has it. */
static int build_read_requests(const struct options *o, struct template_request *requests,
			       char **texts)
{
	for (unsigned i = 0; i < o->request_file_count; i++) {
		int ret = input_read_file("warm-request", o->request_files[i], &texts[i],
					  &requests[i].len);

		if (ret < 0)
			return ret;
		requests[i].data = texts[i];
	}
	return 0;
}

int template_build_command(const struct options *options)
{
	struct template_request requests[OPTIONS_REQUESTS_MAX] = { { .data = "" } };
	char *texts[OPTIONS_REQUESTS_MAX] = { NULL }, *path;
	struct template_order order = {
		.config = &options->config,
		.requests = requests,
		.request_count = options->request_file_count ? options->request_file_count : 1,
		.answers = options->request_file_count > 0,
		.warm = options->warm,
		.timeout_ms = options->timeout_ms,
		.ready_timeout_s = (options->ready_timeout_ms + 999) / 1000,
	};
	bool began = false;
	int ret = template_store_path(options->store, options->args[0], true, &path);

	if (ret == 0)
		ret = build_read_requests(options, requests, texts);
	order.path = path;
	if (ret == 0)
		ret = template_build(&order, &began);
	for (unsigned i = 0; i < options->request_file_count; i++)
		free(texts[i]);
	free(path);
	return ret < 0 ? template_failed("build", began) : 0;
}

/* --- list --- */

static void list_print_json(const char *name, const struct snapshot *s, const char *version,
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

static void list_print(const char *name, const struct snapshot *s, const char *version,
		       const struct template_facts *facts)
{
	char ready[32] = "-";

	if (facts->known)
		snprintf(ready, sizeof(ready), "%.4g ms", (double)facts->ready_us / 1e3);
	printf("%-24s %-12s %7.6g MiB %10s %6u %6u %s\n", name, version,
	       (double)s->memory_size / 1048576, ready, s->working_set.written_pages,
	       s->working_set.read_pages, s->path);
}

static int list_one(void *opaque, const char *name, const char *path)
{
	const struct options *options = opaque;
	char version[SNAPSHOT_VERSION_LEN + 1];
	struct template_facts facts;
	struct snapshot snapshot;

	if (template_store_is_tmp(name))
		return 0;
	if (snapshot_open_template(&snapshot, &facts, path) < 0)
		return template_failed("list", true);
	snapshot_version(&snapshot, version);
	if (options->json)
		list_print_json(name, &snapshot, version, &facts);
	else
		list_print(name, &snapshot, version, &facts);
	snapshot_close(&snapshot);
	return 0;
}

int template_list_command(const struct options *options)
{
	int status;

	if (!options->json)
		printf("%-24s %-12s %11s %10s %6s %6s %s\n", "template", "version", "memory",
		       "ready", "writes", "reads", "where");
	status = template_store_each(options->store, list_one, (void *)(uintptr_t)options);
	return status < 0 ? template_failed("list", true) : status;
}

/* --- check --- */

/* What a dead builder left goes; what a living one has is left alone. */
static int check_sweep(const char *path)
{
	int ret = snapshot_dir_sweep(path);

	return ret == 0 || ret == -EBUSY ? 0 : template_failed("check", true);
}

static int check_one(void *opaque, const char *name, const char *path)
{
	struct template_facts facts;
	struct snapshot snapshot;
	int ret;

	(void)opaque;
	if (template_store_is_tmp(name)) {
		char *whole = strndup(path, strlen(path) - 4);

		ret = whole ? check_sweep(whole) : STATUS_HOST;
		free(whole);
		return ret;
	}
	ret = snapshot_open_template(&snapshot, &facts, path);
	if (ret == 0) {
		ret = snapshot_verify(&snapshot);
		snapshot_close(&snapshot);
	}
	if (ret < 0)
		return template_failed("check", true);
	printf("%s: whole\n", name);
	return 0;
}

int template_check_command(const struct options *options)
{
	char *path;
	int status;

	if (!options->args[0]) {
		status = template_store_each(options->store, check_one, NULL);
		return status < 0 ? template_failed("check", true) : status;
	}
	if (template_store_path(options->store, options->args[0], false, &path) < 0)
		return template_failed("check", false);
	status = check_sweep(path);
	if (status == 0)
		status = check_one(NULL, options->args[0], path);
	free(path);
	return status;
}

/* --- rm --- */

int template_rm_command(const struct options *options)
{
	char *path;
	int ret = template_store_path(options->store, options->args[0], false, &path);

	if (ret == 0) {
		ret = snapshot_dir_sweep(path);
		if (ret == 0)
			ret = snapshot_dir_delete(path);
		free(path);
	}
	return ret < 0 ? template_failed("rm", true) : 0;
}

/* --- export, import --- */

static bool transport_is_standard(const char *file)
{
	return strcmp(file, "-") == 0;
}

static int export_to_stdout(const char *path, bool *began)
{
	if (isatty(STDOUT_FILENO))
		return failf(EINVAL, "standard output is a terminal; name a file, or let a program "
				     "read it");
	*began = true;
	return template_export(path, STDOUT_FILENO, "standard output");
}

int template_export_command(const struct options *options)
{
	bool began = false;
	char *path;
	int ret = template_store_path(options->store, options->args[0], false, &path);

	if (ret == 0)
		ret = transport_is_standard(options->args[1])
			      ? export_to_stdout(path, &began)
			      : template_export_file(path, options->args[1], &began);
	free(path);
	return ret < 0 ? template_failed("export", began) : 0;
}

/* The archive, opened; it is read only when it is sure where to. */
static int import_open(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? failf(errno, "%s: cannot be opened: %s", name, strerror(errno)) : fd;
}

int template_import_command(const struct options *options)
{
	const char *name = options->args[0];
	bool standard = transport_is_standard(name), began = false;
	int fd = standard ? STDIN_FILENO : import_open(name), ret = fd;
	char *path = NULL;

	if (ret >= 0)
		ret = template_store_path(options->store, options->args[1], true, &path);
	if (ret == 0)
		ret = template_import(fd, standard ? "standard input" : name, path, &began);
	if (fd >= 0 && !standard)
		close(fd);
	free(path);
	return ret < 0 ? template_failed("import", began) : 0;
}
