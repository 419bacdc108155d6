/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QMP session (serve/control/qmp.h): finds commands in a stream of bytes by balanced
 * brackets, so that a client may split, join or indent them; after something that
 * cannot be JSON it goes on at the next newline.
 */
#include "serve/control/qmp.h"

#include <jansson.h>
#include <string.h>

#include "arch/base/error.h"

/* --- Framing --- */

enum qmp_frame { QMP_FRAME_NONE, QMP_FRAME_JSON, QMP_FRAME_GARBAGE };

/* Looks at one byte; tells whether it ends a frame. */
static enum qmp_frame qmp_scan_byte(struct qmp *q, char c)
{
	if (q->scan.broken)
		return c == '\n' ? QMP_FRAME_GARBAGE : QMP_FRAME_NONE;
	if (q->scan.in_string) {
		if (c == '\n')
			return QMP_FRAME_GARBAGE;
		if (q->scan.escaped)
			q->scan.escaped = false;
		else if (c == '\\')
			q->scan.escaped = true;
		else if (c == '"')
			q->scan.in_string = false;
		return QMP_FRAME_NONE;
	}
	switch (c) {
	case '{':
	case '[':
		q->scan.broken = ++q->scan.depth > QMP_DEPTH_MAX;
		return QMP_FRAME_NONE;
	case '}':
	case ']':
		if (q->scan.depth == 0)
			q->scan.broken = true;
		else if (--q->scan.depth == 0)
			return QMP_FRAME_JSON;
		return QMP_FRAME_NONE;
	case ' ':
	case '\t':
	case '\r':
	case '\n':
		return QMP_FRAME_NONE;
	case '"':
		q->scan.in_string = q->scan.depth > 0;
		break;
	default:
		break;
	}
	q->scan.broken = q->scan.depth == 0;
	return QMP_FRAME_NONE;
}

/* Scans on to the end of a frame; scan.at is then behind it. */
static enum qmp_frame qmp_scan(struct qmp *q)
{
	enum qmp_frame frame = QMP_FRAME_NONE;

	while (frame == QMP_FRAME_NONE && q->scan.at < q->in.len) {
		frame = qmp_scan_byte(q, (char)q->in.data[q->scan.at++]);
		/* White space between commands is no part of one, however much there is. */
		if (frame == QMP_FRAME_NONE && !q->scan.depth && !q->scan.broken)
			q->in.pos = q->scan.at;
	}
	return frame;
}

/* Forgets the input that has been scanned. */
static void qmp_consume(struct qmp *q)
{
	q->in.len -= q->scan.at;
	if (q->in.len)
		memmove(q->in.data, q->in.data + q->scan.at, q->in.len);
	memset(&q->scan, 0, sizeof(q->scan));
	q->in.pos = 0;
}

/* --- Commands --- */

static void qmp_garbage(struct qmp *q, const char *why)
{
	if (++q->garbage >= QMP_GARBAGE_MAX)
		q->closing = true;
	qmp_fail(q, NULL, "not a QMP command: %s%s", why,
		 q->closing ? "; too many of these, closing the connection" : "");
}

static void qmp_command(struct qmp *q, const uint8_t *text, size_t len)
{
	json_error_t error;
	json_t *command = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, &error);
	json_t *value;

	if (!command) {
		qmp_garbage(q, error.text);
	} else if (!json_is_object(command)) {
		qmp_garbage(q, "an object is expected");
	} else {
		q->id = json_incref(json_object_get(command, "id"));
		value = qmp_execute(q, command);
		if (value)
			qmp_reply(q, "return", value);
	}
	json_decref(command);
}

static void qmp_take(struct qmp *q)
{
	enum qmp_frame frame;

	while (!q->waiting && !q->closing && !q->dropped && q->out.len <= QMP_OUTPUT_MAX / 2) {
		frame = qmp_scan(q);
		if (q->scan.at - q->in.pos > QMP_COMMAND_MAX) {
			q->closing = true;
			qmp_fail(q, NULL, "a command of more than %u bytes; closing the connection",
				 QMP_COMMAND_MAX);
			return;
		}
		if (frame == QMP_FRAME_JSON)
			qmp_command(q, q->in.data + q->in.pos, q->scan.at - q->in.pos);
		else if (frame == QMP_FRAME_GARBAGE)
			qmp_garbage(q, q->scan.depth > QMP_DEPTH_MAX
					       ? "nested too deeply"
					       : "no JSON object, or a line end within a string");
		if (frame != QMP_FRAME_NONE || q->in.pos == q->in.len)
			qmp_consume(q);
		if (frame == QMP_FRAME_NONE)
			return;
	}
}

void qmp_feed(struct qmp *q, const void *data, size_t len)
{
	if (q->closing || q->dropped)
		return;
	if (len)
		blob_put(&q->in, data, len);
	if (q->in.failed)
		q->dropped = true;
	qmp_take(q);
}

void qmp_complete(struct qmp *q, uint64_t ticket, int error)
{
	if (!q->waiting || q->ticket != ticket)
		return;
	q->waiting = false;
	if (error)
		qmp_fail(q, NULL, "%s", error_text());
	else
		qmp_reply(q, "return", json_object());
	qmp_take(q);
}

void qmp_init(struct qmp *q, const struct view *view)
{
	*q = (struct qmp){ .view = view };
	qmp_send(q, json_pack("{s:{s:o,s:[s]}}", "QMP", "version", qmp_version(), "capabilities",
			      QMP_READY_CAPABILITY));
}

void qmp_fini(struct qmp *q)
{
	blob_fini(&q->in);
	blob_fini(&q->out);
	json_decref(q->id);
	q->id = NULL;
}
