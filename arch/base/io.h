/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain writes of whole buffers. Any thread; descriptors stay the caller's.
 */
#ifndef VIRGA_ARCH_BASE_IO_H
#define VIRGA_ARCH_BASE_IO_H

#include <stddef.h>

/* Writes all of data to fd, waiting as long as it takes. 0 or -errno without a sentence. */
int io_write_all(int fd, const void *data, size_t len);

#endif
