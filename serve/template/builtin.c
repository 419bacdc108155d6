/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded guest's template (serve/template/builtin.h): what `virga template build` does, into memfds.
 */
#include "serve/template/builtin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/pages/trace.h"
#include "serve/template/guest.h"
#include "serve/template/trial.h"

#define BUILTIN_NAME       "builtin"
#define BUILTIN_READY_S    30u
#define BUILTIN_TIMEOUT_MS 10000u

/* What a small request looks like; each is sent once before and tried once after the snapshot. */
static const char *const builtin_requests[] = { "", "echo hello" };
#define BUILTIN_REQUESTS (sizeof(builtin_requests) / sizeof(builtin_requests[0]))

/* The files of a snapshot, in memory. */
struct builtin {
	struct template_guest guest;
	struct config config;
	int state_fd;
	int memory_fd;
};

static int builtin_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? failf(errno, "no memory for a template: %s", strerror(errno)) : fd;
}

/* Boots the machine and saves it once it is warm and idle. */
static int builtin_save(struct builtin *b)
{
	char *text = config_print_saved(&b->config);
	int ret =
		text ? template_guest_start(&b->guest, &b->config) : failf(ENOMEM, "out of memory");

	if (ret == 0)
		ret = template_guest_ready(&b->guest, BUILTIN_READY_S);
	for (unsigned i = 0; ret == 0 && i < BUILTIN_REQUESTS; i++)
		ret = template_guest_request(&b->guest, builtin_requests[i],
					     strlen(builtin_requests[i]), BUILTIN_TIMEOUT_MS);
	if (ret == 0)
		ret = template_guest_quiesce(&b->guest);
	if (ret == 0)
		ret = template_guest_save(&b->guest, text, b->state_fd, b->memory_fd);
	template_guest_stop(&b->guest, ret);
	free(text);
	return ret;
}

/* What was written to the file `state`. */
static int builtin_read_state(const struct builtin *b, struct blob *state)
{
	struct stat st;

	if (fstat(b->state_fd, &st) < 0)
		return failf(errno, "a template in memory cannot be read: %s", strerror(errno));
	*state = (struct blob){ .data = malloc((size_t)st.st_size + 1), .len = (size_t)st.st_size };
	if (!state->data)
		return failf(ENOMEM, "out of memory");
	if (pread(b->state_fd, state->data, state->len, 0) != (ssize_t)state->len)
		return failf(EIO, "a template in memory cannot be read");
	return 0;
}

static int builtin_learn(struct snapshot *snapshot, struct working_set *ws)
{
	struct page_trace trace = { 0 };
	int ret = page_trace_init(&trace, snapshot->memory_size);

	for (unsigned i = 0; ret == 0 && i < BUILTIN_REQUESTS; i++) {
		struct trial trial = {
			.snapshot = snapshot,
			.request = builtin_requests[i],
			.request_len = strlen(builtin_requests[i]),
			.timeout_ms = BUILTIN_TIMEOUT_MS,
			.trace = &trace,
		};

		ret = trial_run(&trial);
	}
	if (ret == 0)
		ret = page_trace_working_set(&trace, ws);
	page_trace_fini(&trace);
	return ret;
}

/* The saved machine as a sealed template. */
static int builtin_seal(struct builtin *b, struct sealed *sealed)
{
	const struct blob none = { 0 };
	struct working_set ws = { 0 };
	struct snapshot snapshot = { .memory_fd = -1 };
	struct blob state = { 0 };
	int ret = builtin_read_state(b, &state), fd = ret < 0 ? -1 : dup(b->memory_fd);

	if (ret == 0 && fd < 0)
		ret = failf(errno, "no descriptor left: %s", strerror(errno));
	if (ret == 0)
		ret = snapshot_adopt(&snapshot, BUILTIN_NAME, &state, &none, fd);
	if (ret == 0)
		ret = builtin_learn(&snapshot, &ws);
	if (ret == 0) {
		ret = sealed_adopt(sealed, b->memory_fd, &snapshot.raw, &ws);
		b->memory_fd = -1;
	}
	working_set_fini(&ws);
	snapshot_close(&snapshot);
	blob_fini(&state);
	return ret;
}

int builtin_make(struct sealed *sealed, uint64_t memory)
{
	struct builtin b = { .guest = { .name = BUILTIN_NAME }, .state_fd = -1, .memory_fd = -1 };
	int ret;

	config_init(&b.config);
	if (memory)
		b.config.memory = memory;
	ret = b.state_fd = builtin_memfd("state");
	if (ret >= 0)
		ret = b.memory_fd = builtin_memfd("template-memory");
	if (ret >= 0)
		ret = builtin_save(&b);
	if (ret >= 0)
		ret = builtin_seal(&b, sealed);
	if (b.memory_fd >= 0)
		close(b.memory_fd);
	if (b.state_fd >= 0)
		close(b.state_fd);
	config_fini(&b.config);
	return ret < 0 ? ret : 0;
}
