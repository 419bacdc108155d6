/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a request is JSON, beside jansson, which makes something of it: what that takes is taken; what is
 * taken and not by it has a number or a depth that it has no room for, a NUL in a key, or half a surrogate
 * pair, escaped, which RFC 8259 allows (8.2).
 */
#include "arch/base/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/lib/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
	bool valid = json_text_valid(data, size);
	json_error_t error;
	json_t *value = json_loadb((const char *)data, size, flags, &error);

	/* A NUL byte outside of texts is the end to jansson, whatever follows. */
	must(valid || !value || memchr(data, 0, size));
	if (valid && !value)
		must(json_error_code(&error) == json_error_numeric_overflow ||
		     json_error_code(&error) == json_error_stack_overflow ||
		     json_error_code(&error) == json_error_null_byte_in_key ||
		     memmem(data, size, "\\u", 2));
	json_decref(value);
	return 0;
}
