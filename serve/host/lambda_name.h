/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request asks for: which operation of AWS Lambda's API (its reference), and of which function. A
 * caller names it NAME, NAME:QUALIFIER, by an ARN, or by the end of one (the same, FunctionName).
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_NAME_H
#define VIRGA_SERVE_HOST_LAMBDA_NAME_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>

#define LAMBDA_NAME_MAX      170u /* of all forms, decoded */
#define LAMBDA_QUALIFIER_MAX 384u /* of one in the query, undecoded */

/* Parts of a caller's text; the qualifier may be empty. */
struct lambda_name {
	char text[LAMBDA_NAME_MAX + 1];
	const char *name;
	size_t name_len;
	const char *qualifier;
	size_t qualifier_len;
};

enum lambda_target {
	LAMBDA_INVOKE,            /* the name is filled in, */
	LAMBDA_GET,               /* GetFunction: so it is */
	LAMBDA_GET_CONFIGURATION, /* and GetFunctionConfiguration */
	LAMBDA_LIST,              /* ListFunctions */
	LAMBDA_NO_NAME,           /* one of those, of what is no name */
	LAMBDA_NO_QUALIFIER,      /* one, with a Qualifier in the query that is too long */
	LAMBDA_NO_METHOD,         /* the path of Invoke, which is by POST */
	LAMBDA_NOT_OFFERED,       /* an operation of another AWS API, or of a version of this one */
	LAMBDA_ANOTHER_TARGET     /* anything else */
};

/* Takes a target apart: path, and a query, which may say more. */
enum lambda_target lambda_target_parse(struct lambda_name *out, enum http_method method,
				       const char *target, size_t len);

/* Decodes %XX and takes the parts. False when it is none of the forms. */
bool lambda_name_parse(struct lambda_name *out, const char *text, size_t len);

/* Whether a qualifier may look like that: a version, an alias, $LATEST or $LATEST.PUBLISHED. */
bool lambda_qualifier_valid(const char *text, size_t len);

#endif
