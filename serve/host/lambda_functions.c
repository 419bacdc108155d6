/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of functions, in AWS Lambda's words (serve/host/lambda_functions.h). What there is no such
 * thing of here (role, runtime, handler) is left out; so is the environment, which may hold secrets.
 */
#include "serve/host/lambda_functions.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/host/config.h"

#define FUNCTIONS_ARN "arn:aws:lambda:us-east-1:000000000000:function:"

/* struct FunctionConfiguration of the API. */
static json_t *functions_configuration(const struct function *f)
{
	const struct function_version *v = f->version;
	char arn[160], when[40];
	struct tm tm;

	snprintf(arn, sizeof(arn), FUNCTIONS_ARN "%s", f->config.name);
	gmtime_r(&v->loaded_s, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S.000+0000", &tm);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[s], s:I, s:I}",
			 "FunctionName", f->config.name, "FunctionArn", arn, "Version", "$LATEST",
			 "RevisionId", v->tag, "State", "Active", "LastUpdateStatus", "Successful",
			 "PackageType", "Image", "LastModified", when, "Architectures", "x86_64",
			 "Timeout", (json_int_t)(f->config.timeout_ms + 999) / 1000, "MemorySize",
			 (json_int_t)(v->memory_size >> 20));
}

/* object is freed. */
static void functions_respond(struct http_conn *c, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	char head[128];

	json_decref(object);
	snprintf(head, sizeof(head), "Content-Type: application/json\r\nx-amzn-RequestId: %s\r\n",
		 c->id);
	http_respond(c, text ? 200 : 500, head, text ? text : "", text ? strlen(text) : 0);
	free(text);
}

void lambda_get_function(struct http_conn *c, const struct function *f, bool configuration)
{
	json_t *object = functions_configuration(f);

	if (object && !configuration)
		object = json_pack("{s:o, s:{s:s, s:s}, s:{s:i}}", "Configuration", object, "Code",
				   "RepositoryType", "virga", "ImageUri",
				   f->config.template ? f->config.template : HOST_BUILTIN,
				   "Concurrency", "ReservedConcurrentExecutions",
				   (int)f->config.concurrency);
	functions_respond(c, object);
}

void lambda_list_functions(const struct lambda *lambda, struct http_conn *c)
{
	json_t *list = json_array();

	for (const struct function *f = lambda->pool->functions; f; f = f->next)
		if (f->version && !f->removed)
			json_array_append_new(list, functions_configuration(f));
	functions_respond(c, json_pack("{s:o}", "Functions", list));
}
