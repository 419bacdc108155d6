/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a template: a snapshot of a guest that is ready and warm, with the working set that trial
 * clones of it showed. It is made under its directory's name with .tmp and renamed last, or exchanged
 * with the template that it replaces, so that under its own name there is always a whole one or none.
 */
#ifndef VIRGA_SERVE_TEMPLATE_BUILD_H
#define VIRGA_SERVE_TEMPLATE_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

/* One request to warm up with and to try clones with. */
struct template_request {
	const char *data;
	size_t len;
};

/* All of it borrowed. */
struct template_order {
	const char *path;            /* of the template */
	const struct config *config; /* of the machine; its control socket and vsock are not made */
	const struct template_request *requests; /* at least one */
	unsigned request_count;
	bool answers;  /* they were asked for: an error for an answer is a failure */
	unsigned warm; /* rounds of all requests before the snapshot */
	uint32_t timeout_ms;
	uint32_t ready_timeout_s;
};

/*
 * Builds it, in order: boot, wait for READY, warm up, quiesce, snapshot, try, rename or exchange.
 * *began: a machine was to be started, so that a failure is the host's or the guest's. Progress on
 * standard error. 0 or -errno with a sentence.
 */
int template_build(const struct template_order *order, bool *began);

#endif
