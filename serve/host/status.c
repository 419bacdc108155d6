/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /status: what `virga status` shows, as JSON.
 */
#include <jansson.h>
#include <stdlib.h>

#include "arch/base/clock.h"
#include "arch/vm.h"
#include "serve/host/report.h"
#include "vmm.h"

const char *report_state(const struct lambda *lambda)
{
	return lambda->http->draining ? "draining" : pool_unable(lambda->pool) ? "unable" : "ready";
}

/* Latency of all tiers together. */
static struct histogram status_latency(const struct function *f)
{
	struct histogram all = { 0 };

	for (unsigned i = 0; i < TIER_COUNT; i++)
		histogram_merge(&all, &f->stats.latency[i]);
	return all;
}

static json_t *status_count(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static void status_counts(json_t *object, const char *key, const uint64_t *counts, unsigned count,
			  const char *(*name)(unsigned))
{
	json_t *inner = json_object();

	for (unsigned i = 0; i < count; i++)
		json_object_set_new(inner, name(i), status_count(counts[i]));
	json_object_set_new(object, key, inner);
}

static const char *status_tier(unsigned i)
{
	return tier_name(i);
}

static const char *status_result(unsigned i)
{
	return result_name(i);
}

static const char *status_fallback(unsigned i)
{
	return fallback_name(i);
}

static json_t *status_version(const struct function_version *v)
{
	json_t *object;

	if (!v)
		return json_null();
	object = json_object();
	json_object_set_new(object, "version", json_string(v->tag));
	json_object_set_new(object, "template", json_string(v->name));
	json_object_set_new(object, "memory_bytes", status_count(v->memory_size));
	json_object_set_new(object, "cpus", status_count(v->vcpu_count));
	json_object_set_new(object, "written_pages", status_count(v->written_pages));
	json_object_set_new(object, "read_pages", status_count(v->read_pages));
	return object;
}

static json_t *status_function(const struct function *f)
{
	struct histogram latency = status_latency(f);
	json_t *object = json_object();

	json_object_set_new(object, "name", json_string(f->config.name));
	json_object_set_new(object, "policy", json_string(policy_name(f->config.policy)));
	json_object_set_new(object, "template", status_version(f->version));
	json_object_set_new(object, "loading", json_boolean(f->loading || f->stale));
	json_object_set_new(object, "active", status_count(f->active));
	json_object_set_new(object, "waiting", status_count(f->waiting));
	json_object_set_new(object, "armed", status_count(f->armed_count));
	json_object_set_new(object, "kept", status_count(f->kept_count));
	json_object_set_new(object, "building", status_count(f->building));
	json_object_set_new(object, "target", status_count(f->target));
	json_object_set_new(object, "rate", json_real(f->rate));
	json_object_set_new(object, "p50_us", status_count(histogram_quantile_us(&latency, 500)));
	json_object_set_new(object, "p99_us", status_count(histogram_quantile_us(&latency, 990)));
	status_counts(object, "outcomes", f->stats.results, RESULT_COUNT, status_result);
	status_counts(object, "tiers", f->stats.tiers, TIER_COUNT, status_tier);
	status_counts(object, "fallbacks", f->stats.fallbacks, FALLBACK_COUNT, status_fallback);
	return object;
}

void report_status(struct lambda *lambda, FILE *out)
{
	const struct pool *pool = lambda->pool;
	json_t *object = json_object(), *functions = json_array();
	unsigned bare = 0;
	char *text;

	for (const struct shape *shape = pool->shapes; shape; shape = shape->next)
		bare += shape->ready_count;
	for (const struct function *f = pool->functions; f; f = f->next)
		if (!f->removed)
			json_array_append_new(functions, status_function(f));
	json_object_set_new(object, "version", json_string(VIRGA_VERSION));
	json_object_set_new(object, "state", json_string(report_state(lambda)));
	json_object_set_new(object, "uptime_s",
			    json_real((double)(monotonic_us() - lambda->start_us) / 1e6));
	json_object_set_new(object, "connections", status_count(lambda->http->count));
	json_object_set_new(object, "shells", status_count(pool->alive));
	json_object_set_new(object, "shells_max", status_count(pool->limits.shells));
	json_object_set_new(object, "memory_bytes", status_count(pool->memory));
	json_object_set_new(object, "memory_max_bytes", status_count(pool->limits.memory));
	json_object_set_new(object, "bare", status_count(bare));
	json_object_set_new(object, "functions", functions);
	text = json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	json_decref(object);
	if (text)
		fprintf(out, "%s\n", text);
	free(text);
}
