/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP session: the bytes of a client in pieces, what the supervisor answers, events in between.
 * All that goes out is JSON, a line each.
 */
#include "serve/control/qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "tests/fuzz/lib/bytes.h"

struct session {
	struct view view;
	struct qmp qmp;
	struct bytes in;
	uint64_t tickets;
};

static int session_request(void *opaque, enum view_request request, const char *uri,
			   uint64_t *ticket)
{
	static const int answers[] = { 0, -EINPROGRESS, -EINPROGRESS, -EIO };
	struct session *s = opaque;
	int ret = answers[bytes_below(&s->in, 4)];

	must((request == VIEW_SNAPSHOT) == (uri != NULL));
	*ticket = ++s->tickets;
	return ret == -EIO ? failf(EIO, "as \"told\" \xff") : ret;
}

/* The client reads: every line is an object. */
static void session_read(struct session *s)
{
	struct blob *out = &s->qmp.out;
	uint8_t *end;

	while (out->len && (end = memchr(out->data, '\n', out->len))) {
		size_t len = (size_t)(end - out->data) + 1;
		json_t *message = json_loadb((char *)out->data, len, 0, NULL);

		must(json_is_object(message));
		json_decref(message);
		out->len -= len;
		memmove(out->data, out->data + len, out->len);
	}
	must(out->len == 0);
}

static void session_act(struct session *s)
{
	static const char negotiate[] = "{\"execute\":\"qmp_capabilities\"}";
	uint8_t what = bytes_u8(&s->in);
	const uint8_t *data;
	uint8_t *copy;
	size_t len;

	switch (what) {
	case 0:
		qmp_feed(&s->qmp, negotiate, sizeof(negotiate) - 1);
		break;
	case 1:
		qmp_complete(&s->qmp, s->tickets, 0);
		break;
	case 2:
		failf(EIO, "it went wrong");
		qmp_complete(&s->qmp, bytes_u8(&s->in), -EIO);
		break;
	case 3:
		qmp_event(&s->qmp, bytes_u8(&s->in) & 1 ? "STOP" : QMP_READY_EVENT, NULL);
		break;
	case 4:
		s->view.state = bytes_below(&s->in, VIEW_ENDED + 1);
		s->view.snapshot.status = bytes_below(&s->in, VIEW_SNAPSHOT_FAILED + 1);
		break;
	case 5:
		session_read(s);
		break;
	default:
		data = bytes_take(&s->in, what, &len);
		copy = malloc(len ? len : 1);
		must(copy != NULL);
		if (len)
			memcpy(copy, data, len);
		qmp_feed(&s->qmp, copy, len);
		free(copy);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session s = {
		.view = { .name = "fuzz",
			  .state = VIEW_RUNNING,
			  .cpu_count = 2,
			  .threads = { 100, 101 },
			  .request = session_request,
			  .opaque = &s },
		.in = { data, size },
	};

	qmp_init(&s.qmp, &s.view);
	while (s.in.left)
		session_act(&s);
	session_read(&s);
	qmp_fini(&s.qmp);
	return 0;
}
