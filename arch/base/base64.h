/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 (RFC 4648, section 4), encoding only.
 */
#ifndef VIRGA_ARCH_BASE_BASE64_H
#define VIRGA_ARCH_BASE_BASE64_H

#include <stddef.h>

/* NUL-terminated, owned by the caller; NULL when out of memory. */
char *base64_encode(const void *data, size_t len);

#endif
