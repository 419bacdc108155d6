/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions as AWS Lambda's API describes them: GetFunction, GetFunctionConfiguration and ListFunctions,
 * which SDKs' waiters, Terraform and tool kits ask before they invoke. The front's one thread.
 */
#ifndef VIRGA_SERVE_HOST_LAMBDA_FUNCTIONS_H
#define VIRGA_SERVE_HOST_LAMBDA_FUNCTIONS_H

#include "serve/host/lambda.h"

/* Answers with one that has a version: all there is to say, or its configuration only. */
void lambda_get_function(struct http_conn *c, const struct function *f, bool configuration);

/* Answers with all that can be invoked, on one page. */
void lambda_list_functions(const struct lambda *lambda, struct http_conn *c);

#endif
