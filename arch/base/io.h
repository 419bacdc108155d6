/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain writes of whole buffers, and how many descriptors there may be. Any thread; descriptors stay
 * the caller's.
 */
#ifndef VIRGA_ARCH_BASE_IO_H
#define VIRGA_ARCH_BASE_IO_H

#include <stddef.h>

/* Writes all of data to fd, waiting as long as it takes. 0 or -errno without a sentence. */
int io_write_all(int fd, const void *data, size_t len);

/* Lets this process and those that it forks have as many descriptors as they ever may (ulimit -Hn). */
void io_raise_limit(void);

#endif
