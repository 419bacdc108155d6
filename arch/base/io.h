/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain writes of whole buffers, and which descriptors there are. Any thread; descriptors stay
 * the caller's.
 */
#ifndef VIRGA_ARCH_BASE_IO_H
#define VIRGA_ARCH_BASE_IO_H

#include <stddef.h>

/* Writes all of data to fd, waiting as long as it takes. 0 or -errno without a sentence. */
int io_write_all(int fd, const void *data, size_t len);

/*
 * fd, of which a read or write waits: whoever has shared its open file may have left O_NONBLOCK on it, as
 * QEMU does on a terminal. Of -1: nothing.
 */
int io_waiting(int fd);

/*
 * Closes what this process got from whoever executed it, but for 0, 1 and 2: descriptors without the flag
 * to close on exec, which all that virga opens have. What is named by /dev/fd/N has been opened by then.
 */
void io_close_inherited(void);

/*
 * Closes all descriptors from first on, by /proc where close_range(2) is refused: filters of containers
 * that are older than it do. 0 or -errno without a sentence.
 */
int io_close_from(int first);

/* Lets this process and those that it forks have as many descriptors as they ever may (ulimit -Hn). */
void io_raise_limit(void);

#endif
