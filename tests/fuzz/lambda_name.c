/* SPDX-License-Identifier: Apache-2.0 */
/* The target of a request over HTTP: which operation of Lambda's API, of which function. */
#include "serve/host/lambda_name.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/lib/bytes.h"

static void check(const struct lambda_name *n)
{
	const char *end = n->text + sizeof(n->text);

	must(n->name >= n->text && n->name + n->name_len < end);
	must(n->name_len > 0);
	if (n->qualifier_len && n->qualifier >= n->text && n->qualifier < end)
		must(n->qualifier + n->qualifier_len <= end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_method methods[] = { HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_DELETE };
	struct bytes in = { data, size };
	enum http_method method = methods[bytes_below(&in, 4)];
	char *text = malloc(in.left ? in.left : 1);
	struct lambda_name name = { .name = NULL };
	enum lambda_target target;

	must(text != NULL);
	if (in.left)
		memcpy(text, in.at, in.left);
	target = lambda_target_parse(&name, method, text, in.left);
	if (target == LAMBDA_INVOKE || target == LAMBDA_GET || target == LAMBDA_GET_CONFIGURATION) {
		check(&name);
		bytes_read(name.qualifier, name.qualifier_len);
	}
	if (lambda_name_parse(&name, text, in.left))
		check(&name);
	lambda_qualifier_valid(text, in.left);
	free(text);
	return 0;
}
