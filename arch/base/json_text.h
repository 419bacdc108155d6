/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether bytes are JSON (RFC 8259), without making anything of them: a request and its
 * answer are passed on as they are.
 */
#ifndef VIRGA_ARCH_BASE_JSON_TEXT_H
#define VIRGA_ARCH_BASE_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define JSON_TEXT_DEPTH_MAX 4096u /* arrays and objects in each other; RFC 8259, 9 */

/* One value in UTF-8 with nothing but white space around it. Takes no memory, time with len. */
bool json_text_valid(const void *data, size_t len);

#endif
