/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a QMP session sends (serve/control/qmp.h): replies, errors and events, each an object on a line.
 */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "arch/base/error.h"
#include "serve/control/qmp.h"

static int qmp_put(const char *data, size_t len, void *opaque)
{
	blob_put(opaque, data, len);
	return 0;
}

void qmp_send(struct qmp *q, json_t *object)
{
	if (!object || json_dump_callback(object, qmp_put, &q->out, JSON_COMPACT) < 0)
		q->out.failed = true;
	qmp_put("\r\n", 2, &q->out);
	json_decref(object);
	if (q->out.failed)
		q->dropped = true;
}

void qmp_reply(struct qmp *q, const char *key, json_t *value)
{
	json_t *reply = json_pack("{s:o}", key, value);

	if (reply && q->id)
		json_object_set_new(reply, "id", q->id);
	else
		json_decref(q->id);
	q->id = NULL;
	qmp_send(q, reply);
}

void qmp_fail(struct qmp *q, const char *class, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	text_clean(text);
	qmp_reply(q, "error",
		  json_pack("{s:s,s:s}", "class", class ? class : "GenericError", "desc", text));
}

void qmp_event(struct qmp *q, const char *name, const json_t *data)
{
	struct timespec now;
	json_t *event;

	if (!q->negotiated || q->closing || q->dropped)
		return;
	if (!q->wants_ready && !strcmp(name, QMP_READY_EVENT))
		return;
	if (q->out.len > QMP_OUTPUT_MAX) {
		q->dropped = true;
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	event = json_pack("{s:s,s:{s:I,s:I}}", "event", name, "timestamp", "seconds",
			  (json_int_t)now.tv_sec, "microseconds", (json_int_t)now.tv_nsec / 1000);
	if (event && data)
		json_object_set_new(event, "data", json_deep_copy(data));
	qmp_send(q, event);
}
