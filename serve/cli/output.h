/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine's answer on its way to standard output: kept while the machine runs,
 * written when it has ended, so that a reader that does not read holds up neither
 * the machine nor its time-out nor a signal.
 */
#ifndef VIRGA_SERVE_CLI_OUTPUT_H
#define VIRGA_SERVE_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "devices/channel/protocol.h"

struct output {
	bool line; /* end with a newline if the answer does not */
	char *data;
	size_t len;
};

/* struct machine_request's answer: keeps a copy of a RESPONSE. opaque: struct output. */
int output_keep(void *opaque, enum channel_type type, const void *data, size_t len);

/*
 * struct machine_request's deliver: writes what was kept. While it waits for the reader, the signals
 * that vm_block_signals() blocks still count: -ETIMEDOUT after SIGALRM, -EINTR after another.
 * Other -errno when standard output fails. With a sentence.
 */
int output_write(void *opaque);

void output_free(struct output *output);

#endif
