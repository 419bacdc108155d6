/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a caller names a function: NAME, NAME:QUALIFIER, an ARN, or the end of one (AWS Lambda API
 * reference, Invoke, FunctionName).
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_NAME_H
#define VIRGA_SERVE_HOST_LAMBDA_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define NAME_MAX_LEN 170u /* of all forms, decoded */

/* Parts of a caller's text; the qualifier may be empty. */
struct function_name {
	char text[NAME_MAX_LEN + 1];
	const char *name;
	size_t name_len;
	const char *qualifier;
	size_t qualifier_len;
};

/*
 * Decodes %XX and takes the parts. False when it is none of the forms.
 */
bool function_name_parse(struct function_name *out, const char *text, size_t len);

/*
 * The part of a request's target (without its query) between the prefix and the suffix of Invoke:
 * /2015-03-31/functions/NAME/invocations. False: it is another target.
 */
bool invoke_target(const char *target, size_t len, const char **name, size_t *name_len);

/* Whether a qualifier may look like that: a version, an alias or $LATEST. */
bool qualifier_valid(const char *text, size_t len);

/* The value of a parameter in the query of a target, undecoded. False: there is none. */
bool query_value(const char *target, size_t len, const char *key, const char **value,
		 size_t *value_len);

#endif
