/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that a command reads: from its command line, a file or standard input. One byte more than a
 * request may have is read at most, for whoever takes it to refuse.
 */
#ifndef VIRGA_SERVE_CLI_INPUT_H
#define VIRGA_SERVE_CLI_INPUT_H

#include <stddef.h>

/* Reads --data: TEXT as it is, @FILE or @- (stdin). *text is owned by the caller. -errno, sentence. */
int input_read_data(const char *data, char **text, size_t *len);

/* The same of a file, "-" for stdin; option is for sentences. */
int input_read_file(const char *option, const char *path, char **text, size_t *len);

#endif
