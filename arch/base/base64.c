/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 for answers in JSON lines (arch/base/base64.h).
 */
#include "arch/base/base64.h"

#include <stdint.h>
#include <stdlib.h>

char *base64_encode(const void *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = data;
	char *text = malloc((len + 2) / 3 * 4 + 1), *out = text;

	for (size_t i = 0; text && i < len; i += 3) {
		uint32_t group = (uint32_t)p[i] << 16;

		group |= i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0;
		group |= i + 2 < len ? p[i + 2] : 0;
		*out++ = digits[group >> 18];
		*out++ = digits[group >> 12 & 63];
		*out++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[group & 63] : '=';
	}
	if (text)
		*out = 0;
	return text;
}
