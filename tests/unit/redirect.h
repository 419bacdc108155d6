/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of what uses stdin and stdout: puts descriptors of the test in their
 * place and takes them out again.
 */
#ifndef VIRGA_TESTS_UNIT_REDIRECT_H
#define VIRGA_TESTS_UNIT_REDIRECT_H

#include <stddef.h>

struct redirect {
	int saved[3];
};

/* stdin and stdout become these, /dev/null for -1; stderr becomes error, /dev/null for -1. */
struct redirect redirect(int input, int output, int error);
void redirect_undo(const struct redirect *r);

/* Reads what is there now, at most size bytes, without waiting. */
size_t drain(int fd, char *buf, size_t size);

#endif
