/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The variables that the host sends: they are put before those that the agent was
 * started with, in the environment of this process, which every worker inherits.
 */
#ifndef VIRGA_GUEST_AGENT_ENVIRONMENT_H
#define VIRGA_GUEST_AGENT_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* All zero: nothing came yet. */
struct environment {
	char *data; /* owned; len bytes, as they came */
	size_t len;
	char **own; /* what the agent was started with */
	char **all; /* owned; what `environ` is once something came */
};

/*
 * Takes variables, strings NAME=VALUE that each end with a NUL byte, in place of those that came
 * before. *changed: they are others. 0; -ENOMEM and everything is as it was.
 */
int environment_set(struct environment *e, const void *data, size_t len, bool *changed);

#endif
