/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS where a mapped file can lose pages: guest memory, a kernel. There it is the end of this process,
 * with a sentence; anywhere else it is a crash as if nobody handled it.
 */
#ifndef VIRGA_ARCH_BASE_SIGBUS_H
#define VIRGA_ARCH_BASE_SIGBUS_H

#include <stddef.h>

/* First thing in main: from here on, and in all children, status is the end's. */
void sigbus_begin(int status);

/*
 * A mapping where SIGBUS may come, and the words for it, which stay the caller's; until it is unmapped.
 * No failure: of too many the last are crashes. One thread at a time.
 */
void sigbus_expect(const void *base, size_t len, const char *what);
void sigbus_forget(const void *base);

#endif
