/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga status` (serve/cli/host_client.h): what a running host says of itself, as a table.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/cli/command.h"
#include "serve/cli/host_client.h"
#include "vmm.h"

#define STATUS_TIMEOUT_MS 5000u
#define STATUS_CLEAR      "\033[H\033[J"

static long long status_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *status_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

/* All values of an object of counts, or those of some keys. */
static long long status_sum(const json_t *counts, const char *const *keys)
{
	long long sum = 0;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)counts, key, value)
	{
		const char *const *wanted = keys;

		while (wanted && *wanted && strcmp(*wanted, key) != 0)
			wanted++;
		if (!wanted || *wanted)
			sum += json_integer_value(value);
	}
	return sum;
}

static void status_print_function(const json_t *f)
{
	static const char *const errors[] = { "function_error", "timeout", "host_error", NULL };
	const json_t *outcomes = json_object_get(f, "outcomes");
	const json_t *template = json_object_get(f, "template");

	printf("%-20s %-6s %-12s %5lld %5lld/%-5lld %4lld %4lld %8.1f %9lld %7lld %6lld %6lld "
	       "%8.3f "
	       "%8.3f\n",
	       status_text(f, "name"), status_text(f, "policy"), status_text(template, "version"),
	       status_number(template, "memory_bytes") >> 20, status_number(f, "armed"),
	       status_number(f, "target"), status_number(f, "active"), status_number(f, "waiting"),
	       json_real_value(json_object_get(f, "rate")), status_number(outcomes, "ok"),
	       status_sum(outcomes, errors), status_number(outcomes, "throttled"),
	       status_sum(json_object_get(f, "fallbacks"), NULL),
	       (double)status_number(f, "p50_us") / 1000,
	       (double)status_number(f, "p99_us") / 1000);
}

static void status_print(const json_t *host)
{
	const json_t *functions = json_object_get(host, "functions");

	printf("virga %s: %s, up %.0f s, %lld connections, %lld of %lld shells, %lld bare\n\n",
	       status_text(host, "version"), status_text(host, "state"),
	       json_real_value(json_object_get(host, "uptime_s")),
	       status_number(host, "connections"), status_number(host, "shells"),
	       status_number(host, "shells_max"), status_number(host, "bare"));
	printf("%-20s %-6s %-12s %5s %11s %4s %4s %8s %9s %7s %6s %6s %8s %8s\n", "function",
	       "policy", "version", "MiB", "armed/want", "run", "wait", "per s", "ok", "errors",
	       "429", "fell", "p50 ms", "p99 ms");
	for (size_t i = 0; i < json_array_size(functions); i++)
		status_print_function(json_array_get(functions, i));
}

/* Asks and prints once. */
static int status_once(const struct options *options)
{
	struct host_reply reply = { 0 };
	int fd = host_connect(options->host), ret = fd;
	json_t *host = NULL;

	if (ret >= 0)
		ret = host_call(fd, "GET", "/status", "", 0, STATUS_TIMEOUT_MS, &reply);
	if (ret >= 0) {
		host = json_loadb(reply.body ? reply.body : "", reply.len, 0, NULL);
		if (reply.status != 200 || !host)
			ret = failf(EPROTO, "what answers there is no function host");
	}
	if (ret >= 0 && options->watch && !options->json && isatty(STDOUT_FILENO))
		fputs(STATUS_CLEAR, stdout);
	if (ret >= 0 && options->json)
		printf("%s\n", reply.body);
	else if (ret >= 0)
		status_print(host);
	fflush(stdout);
	json_decref(host);
	host_reply_fini(&reply);
	if (fd >= 0)
		close(fd);
	if (ret < 0)
		notef("status: %s", error_text());
	return ret < 0 ? STATUS_HOST : 0;
}

int status_command(const struct options *options)
{
	const struct timespec second = { .tv_sec = 1 };
	int status = status_once(options);

	while (options->watch && status == 0 && !ferror(stdout)) {
		nanosleep(&second, NULL);
		status = status_once(options);
	}
	return status;
}
