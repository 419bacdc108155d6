/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a template (serve/template/build.h). This process opens and names things; the machine and
 * the trial clones are children, confined, that die with it.
 */
#include "serve/template/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/vm.h"
#include "boot/config.h"
#include "boot/pages/trace.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "serve/template/guest.h"
#include "serve/template/progress.h"
#include "serve/template/trial.h"

#define TEMPLATE_TRIALS 2u /* of each request */

struct template_build {
	const struct template_order *order;
	struct config config; /* that of the order, its strings borrowed */
	char *config_text;    /* owned; what the snapshot stores */
	struct snapshot_dir dir;
	struct template_guest guest;
	struct progress progress;
	struct template_facts facts;
};

/* --- The working set --- */

static int template_try(struct template_build *b, struct snapshot *snapshot,
			struct page_trace *trace)
{
	bool exact = true;

	for (unsigned i = 0; i < TEMPLATE_TRIALS * b->order->request_count; i++) {
		const struct template_request *request = &b->order->requests[i / TEMPLATE_TRIALS];
		struct trial trial = {
			.snapshot = snapshot,
			.request = request->data,
			.request_len = request->len,
			.timeout_ms = b->order->timeout_ms,
			.trace = trace,
		};
		int ret = trial_run(&trial);

		if (ret < 0)
			return ret;
		if (trial.error && b->order->answers)
			return failf(EREMOTEIO, "trial clone: the guest answered with an error: %s",
				     error_text());
		exact = exact && trial.exact;
	}
	if (!exact)
		notef("%s: userfaultfd is not permitted (CAP_SYS_PTRACE, or access to "
		      "/dev/userfaultfd): the working set is what the trial clones left mapped",
		      b->dir.path);
	return 0;
}

static int template_write_working_set(struct template_build *b, const struct snapshot *snapshot,
				      const struct working_set *ws)
{
	struct blob file = { 0 };
	int ret = working_set_encode(ws, snapshot_state_checksum(snapshot), &file);

	if (ret == 0)
		ret = snapshot_dir_add(&b->dir, "working-set", file.data, file.len);
	if (ret == 0)
		progress_say(&b->progress,
			     "working set: %u pages written, %u read, by %u trial clones",
			     ws->written_pages, ws->read_pages, ws->trials);
	blob_fini(&file);
	return ret;
}

/* Fewer faults for those that start from a file system in memory. Advice: no failure counts. */
static void template_collapse(struct template_build *b, struct snapshot *snapshot,
			      const struct working_set *ws)
{
	struct memory memory;
	unsigned count;

	if (snapshot_map_memory(snapshot, &memory) < 0)
		return;
	count = working_set_collapse(ws, &memory);
	if (count)
		progress_say(&b->progress, "%u MiB of memory are cached in huge pages", 2 * count);
	memory_destroy(&memory);
}

static int template_write_facts(struct template_build *b, const struct snapshot *snapshot)
{
	char *text;
	int ret;

	b->facts.built_s = (uint64_t)time(NULL);
	b->facts.build_us = monotonic_us() - b->progress.start_us;
	b->facts.warm_requests = b->guest.requests;
	b->facts.tried_requests = b->order->request_count;
	text = template_facts_print(&b->facts, snapshot_state_checksum(snapshot));
	if (!text)
		return -ENOMEM;
	ret = snapshot_dir_add(&b->dir, "template", text, strlen(text));
	free(text);
	return ret;
}

static int template_learn(struct template_build *b)
{
	struct working_set ws = { 0 };
	struct page_trace trace = { 0 };
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, b->dir.tmp_path);

	if (ret < 0)
		return ret;
	ret = page_trace_init(&trace, snapshot.memory_size);
	if (ret == 0)
		ret = template_try(b, &snapshot, &trace);
	if (ret == 0)
		ret = page_trace_working_set(&trace, &ws);
	if (ret == 0)
		ret = template_write_working_set(b, &snapshot, &ws);
	if (ret == 0)
		ret = template_write_facts(b, &snapshot);
	if (ret == 0)
		template_collapse(b, &snapshot, &ws);
	working_set_fini(&ws);
	page_trace_fini(&trace);
	snapshot_close(&snapshot);
	return ret;
}

/* --- The order --- */

/* What the machine is made of, as its snapshot will say it. */
static int template_config(struct template_build *b)
{
	int ret;

	b->config = *b->order->config;
	b->config.control = NULL;
	b->config.devices = (struct device_list){ 0 };
	ret = device_list_merge(&b->config.devices, &b->order->config->devices);
	if (ret < 0)
		return ret;
	config_forget(&b->config, DEVICE_CONNECT); /* nobody is there who could connect */
	b->config_text = config_print_saved(&b->config);
	if (!b->config_text)
		return failf(ENOMEM, "out of memory");
	return 0;
}

static int template_warm(struct template_build *b)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < b->order->warm; i++)
		for (unsigned r = 0; ret == 0 && r < b->order->request_count; r++)
			ret = template_guest_request(&b->guest, b->order->requests[r].data,
						     b->order->requests[r].len,
						     b->order->timeout_ms);
	if (ret == 0 && b->order->warm)
		progress_say(&b->progress, "warm: %u requests answered",
			     (unsigned)b->guest.requests);
	return ret;
}

/* From the start of the machine to its files. */
static int template_snapshot(struct template_build *b)
{
	uint64_t start_us = monotonic_us();
	int ret = template_guest_start(&b->guest, &b->config);

	if (ret < 0)
		return ret;
	progress_say(&b->progress, "booting; waiting for the guest to say READY");
	ret = template_guest_ready(&b->guest, b->order->ready_timeout_s);
	if (ret < 0)
		return ret;
	b->facts.ready_us = monotonic_us() - start_us;
	progress_say(&b->progress, "ready");
	ret = template_warm(b);
	if (ret == 0)
		ret = template_guest_quiesce(&b->guest);
	if (ret < 0)
		return ret;
	progress_say(&b->progress, "idle");
	ret = template_guest_save(&b->guest, b->config_text, b->dir.state_fd, b->dir.memory_fd);
	if (ret == 0)
		progress_say(&b->progress, "saved");
	return ret;
}

static int template_run(struct template_build *b)
{
	int ret;

	b->guest.name = b->dir.path;
	ret = snapshot_dir_unfinished(&b->dir);
	if (ret == 0)
		ret = snapshot_dir_files(&b->dir, b->config_text, strlen(b->config_text));
	if (ret == 0)
		ret = template_snapshot(b);
	template_guest_stop(&b->guest, ret);
	if (ret == 0)
		ret = template_learn(b);
	return ret;
}

int template_build(const struct template_order *order, bool *began)
{
	struct template_build b = {
		.order = order,
	};
	int ret;

	*began = false;
	progress_init(&b.progress, order->path);
	ret = template_config(&b);
	if (ret == 0)
		ret = snapshot_dir_open(&b.dir, order->path, true);
	if (ret == 0) {
		*began = true;
		ret = template_run(&b);
		if (ret == 0)
			ret = snapshot_dir_commit(&b.dir);
		else
			snapshot_dir_abort(&b.dir);
	}
	device_list_fini(&b.config.devices);
	free(b.config_text);
	return ret;
}
