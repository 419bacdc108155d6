/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of the control socket: what each takes and returns, as QEMU's QMP
 * reference manual defines those of the same name. Ours beyond it: `ready` in
 * query-status and `pause-us` in query-migrate.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "serve/control/qmp.h"
#include "vmm.h"

/* The QEMU whose schema is followed. */
#define QMP_MAJOR     8
#define QMP_MINOR     2

#define QMP_ARGUMENTS 2 /* of one command at most */

/* NULL after qmp_fail(), or when the reply comes later. */
typedef json_t *(*qmp_handler)(struct qmp *q, const json_t *arguments);

struct qmp_entry {
	const char *name;
	qmp_handler handler;
	const char *arguments[QMP_ARGUMENTS]; /* the names of those it takes */
};

static const char *const qmp_state_names[] = {
	[VIEW_PRELAUNCH] = "prelaunch", [VIEW_RUNNING] = "running", [VIEW_PAUSED] = "paused",
	[VIEW_SAVING] = "save-vm",      [VIEW_ENDED] = "shutdown",
};

/* --- Queries --- */

json_t *qmp_version(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", QMP_MAJOR, "minor", QMP_MINOR,
			 "micro", 0, "package", "virga " VIRGA_VERSION);
}

static json_t *qmp_query_version(struct qmp *q, const json_t *arguments)
{
	(void)q;
	(void)arguments;
	return qmp_version();
}

static json_t *qmp_query_status(struct qmp *q, const json_t *arguments)
{
	const struct view *view = q->view;

	(void)arguments;
	return json_pack("{s:s,s:b,s:b,s:b}", "status", qmp_state_names[view->state], "running",
			 view->state == VIEW_RUNNING, "singlestep", false, "ready", view->ready);
}

static json_t *qmp_query_name(struct qmp *q, const json_t *arguments)
{
	(void)arguments;
	return q->view->name ? json_pack("{s:s}", "name", q->view->name) : json_object();
}

static json_t *qmp_query_cpus_fast(struct qmp *q, const json_t *arguments)
{
	json_t *list = json_array();

	(void)arguments;
	for (unsigned i = 0; list && i < q->view->cpu_count; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
		json_array_append_new(list, json_pack("{s:I,s:s,s:I,s:s,s:{}}", "cpu-index",
						      (json_int_t)i, "qom-path", path, "thread-id",
						      (json_int_t)q->view->threads[i], "target",
						      "x86_64", "props"));
	}
	return list;
}

static json_t *qmp_query_migrate(struct qmp *q, const json_t *arguments)
{
	const struct view *view = q->view;

	(void)arguments;
	switch (view->snapshot.status) {
	case VIEW_SNAPSHOT_NONE:
		return json_object();
	case VIEW_SNAPSHOT_ACTIVE:
		return json_pack("{s:s}", "status", "active");
	case VIEW_SNAPSHOT_DONE:
		return json_pack("{s:s,s:I,s:I,s:I}", "status", "completed", "total-time",
				 (json_int_t)(view->snapshot.total_us / 1000), "downtime",
				 (json_int_t)(view->snapshot.pause_us / 1000), "pause-us",
				 (json_int_t)view->snapshot.pause_us);
	case VIEW_SNAPSHOT_FAILED:
		break;
	}
	return json_pack("{s:s,s:s}", "status", "failed", "error-desc", view->snapshot.error);
}

/* --- Requests --- */

static json_t *qmp_request(struct qmp *q, enum view_request request, const char *uri)
{
	int ret = q->view->request(q->view->opaque, request, uri, &q->ticket);

	if (ret == 0)
		return json_object();
	if (ret == -EINPROGRESS)
		q->waiting = true;
	else
		qmp_fail(q, NULL, "%s", error_text());
	return NULL;
}

static json_t *qmp_stop(struct qmp *q, const json_t *arguments)
{
	(void)arguments;
	return qmp_request(q, VIEW_STOP, NULL);
}

static json_t *qmp_cont(struct qmp *q, const json_t *arguments)
{
	(void)arguments;
	return qmp_request(q, VIEW_CONT, NULL);
}

static json_t *qmp_system_powerdown(struct qmp *q, const json_t *arguments)
{
	(void)arguments;
	return qmp_request(q, VIEW_POWERDOWN, NULL);
}

static json_t *qmp_quit(struct qmp *q, const json_t *arguments)
{
	(void)arguments;
	return qmp_request(q, VIEW_QUIT, NULL);
}

/* `detach` is for compatibility, as QEMU has it: nobody waits here anyway. */
static json_t *qmp_migrate(struct qmp *q, const json_t *arguments)
{
	const json_t *uri = json_object_get(arguments, "uri");
	const json_t *detach = json_object_get(arguments, "detach");

	if (!json_is_string(uri)) {
		qmp_fail(q, NULL, "migrate needs the argument 'uri', a string: file:DIR");
		return NULL;
	}
	if (detach && !json_is_boolean(detach)) {
		qmp_fail(q, NULL, "migrate's argument 'detach' must be true or false");
		return NULL;
	}
	return qmp_request(q, VIEW_SNAPSHOT, json_string_value(uri));
}

/* Whether each is a capability that the greeting offers; else after qmp_fail(). */
static bool qmp_check_capabilities(struct qmp *q, const json_t *enable)
{
	const json_t *value;
	size_t i;

	if (enable && !json_is_array(enable)) {
		qmp_fail(q, NULL, "the argument 'enable' must be a list");
		return false;
	}
	json_array_foreach(enable, i, value)
	{
		const char *name = json_string_value(value);

		if (!name || strcmp(name, QMP_READY_CAPABILITY) != 0) {
			qmp_fail(q, NULL, "there is no capability '%.64s'; there is '%s'",
				 name ? name : "?", QMP_READY_CAPABILITY);
			return false;
		}
	}
	return true;
}

static json_t *qmp_capabilities(struct qmp *q, const json_t *arguments)
{
	const json_t *enable = json_object_get(arguments, "enable");

	if (q->negotiated) {
		qmp_fail(q, "CommandNotFound", "capabilities have been negotiated already");
		return NULL;
	}
	if (!qmp_check_capabilities(q, enable))
		return NULL;
	q->wants_ready = json_array_size(enable) > 0;
	q->negotiated = true;
	return json_object();
}

/* --- The table --- */

static json_t *qmp_query_commands(struct qmp *q, const json_t *arguments);

static const struct qmp_entry qmp_entries[] = {
	{ "qmp_capabilities", qmp_capabilities, { "enable" } },
	{ "query-version", qmp_query_version, { NULL } },
	{ "query-commands", qmp_query_commands, { NULL } },
	{ "query-name", qmp_query_name, { NULL } },
	{ "query-status", qmp_query_status, { NULL } },
	{ "query-cpus-fast", qmp_query_cpus_fast, { NULL } },
	{ "stop", qmp_stop, { NULL } },
	{ "cont", qmp_cont, { NULL } },
	{ "system_powerdown", qmp_system_powerdown, { NULL } },
	{ "quit", qmp_quit, { NULL } },
	{ "migrate", qmp_migrate, { "uri", "detach" } },
	{ "query-migrate", qmp_query_migrate, { NULL } },
};

#define QMP_ENTRIES (sizeof(qmp_entries) / sizeof(qmp_entries[0]))

static json_t *qmp_query_commands(struct qmp *q, const json_t *arguments)
{
	json_t *list = json_array();

	(void)q;
	(void)arguments;
	for (size_t i = 0; list && i < QMP_ENTRIES; i++)
		json_array_append_new(list, json_pack("{s:s}", "name", qmp_entries[i].name));
	return list;
}

static const struct qmp_entry *qmp_find(const char *name)
{
	for (size_t i = 0; i < QMP_ENTRIES; i++) {
		if (!strcmp(qmp_entries[i].name, name))
			return &qmp_entries[i];
	}
	return NULL;
}

static bool qmp_takes(const struct qmp_entry *entry, const char *argument)
{
	for (size_t i = 0; i < QMP_ARGUMENTS && entry->arguments[i]; i++) {
		if (!strcmp(entry->arguments[i], argument))
			return true;
	}
	return false;
}

/* The command's name, or NULL after qmp_fail(). */
static const char *qmp_check_members(struct qmp *q, json_t *command)
{
	const char *key;
	json_t *value;

	json_object_foreach(command, key, value)
	{
		if (strcmp(key, "execute") != 0 && strcmp(key, "arguments") != 0 &&
		    strcmp(key, "id") != 0) {
			qmp_fail(q, NULL, "a command has no member '%.64s'", key);
			return NULL;
		}
	}
	if (!json_is_string(json_object_get(command, "execute"))) {
		qmp_fail(q, NULL, "a command needs the member 'execute', a string");
		return NULL;
	}
	value = json_object_get(command, "arguments");
	if (value && !json_is_object(value)) {
		qmp_fail(q, NULL, "the member 'arguments' must be an object");
		return NULL;
	}
	return json_string_value(json_object_get(command, "execute"));
}

json_t *qmp_execute(struct qmp *q, json_t *command)
{
	const char *name = qmp_check_members(q, command);
	json_t *arguments = json_object_get(command, "arguments");
	const struct qmp_entry *entry;
	const char *key;
	json_t *value;

	if (!name)
		return NULL;
	entry = qmp_find(name);
	if (!entry) {
		qmp_fail(q, "CommandNotFound", "there is no command '%.64s'", name);
		return NULL;
	}
	if (!q->negotiated && entry->handler != qmp_capabilities) {
		qmp_fail(q, "CommandNotFound", "'%s' comes after 'qmp_capabilities'", name);
		return NULL;
	}
	json_object_foreach(arguments, key, value)
	{
		if (!qmp_takes(entry, key)) {
			qmp_fail(q, NULL, "'%s' has no argument '%.64s'", name, key);
			return NULL;
		}
	}
	return entry->handler(q, arguments);
}
