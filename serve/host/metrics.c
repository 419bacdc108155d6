/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's counters in Prometheus' text format, version 0.0.4 (prometheus.io/docs,
 * "Exposition formats"). Times are in seconds, as its naming rules want them.
 */
#include <inttypes.h>

#include "arch/base/clock.h"
#include "serve/host/report.h"
#include "vmm.h"

/* The buckets that are shown: each doubling. */
#define METRICS_STEP 4u

static void metrics_family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP virga_%s %s\n# TYPE virga_%s %s\n", name, help, name, type);
}

static void metrics_one(FILE *out, const char *name, const char *type, const char *help,
			uint64_t value)
{
	metrics_family(out, name, type, help);
	fprintf(out, "virga_%s %" PRIu64 "\n", name, value);
}

/* labels: without braces; names and values here need no escapes. */
static void metrics_histogram(FILE *out, const char *name, const char *labels,
			      const struct histogram *h)
{
	uint64_t below = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		below += h->buckets[i];
		if (i == HISTOGRAM_BUCKETS - 1)
			fprintf(out, "virga_%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels,
				below);
		else if (i % METRICS_STEP == METRICS_STEP - 1)
			fprintf(out, "virga_%s_bucket{%s,le=\"%.6g\"} %" PRIu64 "\n", name, labels,
				(double)histogram_limit_us(i) / 1e6, below);
	}
	fprintf(out, "virga_%s_sum{%s} %.6f\nvirga_%s_count{%s} %" PRIu64 "\n", name, labels,
		(double)h->sum_us / 1e6, name, labels, h->count);
}

/* f, or the next one that has not been removed. */
static const struct function *metrics_live(const struct function *f)
{
	while (f && f->removed)
		f = f->next;
	return f;
}

static void metrics_requests(const struct pool *pool, FILE *out)
{
	char labels[160];

	metrics_family(out, "invocations_total", "counter", "Requests by how they ended.");
	for (const struct function *f = metrics_live(pool->functions); f; f = metrics_live(f->next))
		for (unsigned i = 0; i < RESULT_COUNT; i++)
			fprintf(out,
				"virga_invocations_total{function=\"%s\",outcome=\"%s\"} %" PRIu64
				"\n",
				f->config.name, result_name(i), f->stats.results[i]);
	metrics_family(out, "invocations_tier_total", "counter", "Requests by what they ran on.");
	for (const struct function *f = metrics_live(pool->functions); f; f = metrics_live(f->next))
		for (unsigned i = 0; i < TIER_COUNT; i++)
			fprintf(out,
				"virga_invocations_tier_total{function=\"%s\",tier=\"%s\"} %" PRIu64
				"\n",
				f->config.name, tier_name(i), f->stats.tiers[i]);
	metrics_family(out, "fallbacks_total", "counter",
		       "Requests that did not go the way their function is set up for.");
	for (const struct function *f = metrics_live(pool->functions); f; f = metrics_live(f->next))
		for (unsigned i = 0; i < FALLBACK_COUNT; i++)
			fprintf(out,
				"virga_fallbacks_total{function=\"%s\",reason=\"%s\"} %" PRIu64
				"\n",
				f->config.name, fallback_name(i), f->stats.fallbacks[i]);
	metrics_family(out, "invocation_seconds", "histogram",
		       "From a request's first byte to its answer, of those that went well.");
	for (const struct function *f = metrics_live(pool->functions); f; f = metrics_live(f->next))
		for (unsigned i = 0; i < TIER_COUNT; i++) {
			snprintf(labels, sizeof(labels), "function=\"%s\",tier=\"%s\"",
				 f->config.name, tier_name(i));
			metrics_histogram(out, "invocation_seconds", labels, &f->stats.latency[i]);
		}
}

/* A number in struct function that is shown as it is. */
struct metrics_number {
	const char *name;
	const char *type;
	size_t offset;
	enum { METRICS_U32, METRICS_U64, METRICS_REAL } kind;
	const char *help;
};

/* clang-format off */
#define OF(member) offsetof(struct function, member)

static const struct metrics_number metrics_numbers[] = {
	{ "active", "gauge", OF(active), METRICS_U32, "Requests that run." },
	{ "waiting", "gauge", OF(waiting), METRICS_U32, "Requests that wait for a machine." },
	{ "arrival_rate", "gauge", OF(rate), METRICS_REAL, "Requests a second, smoothed." },
	{ "pool_target", "gauge", OF(target), METRICS_U32, "Armed clones that the controller wants." },
	{ "pool_armed", "gauge", OF(armed_count), METRICS_U32, "Armed clones that wait." },
	{ "pool_kept", "gauge", OF(kept_count), METRICS_U32, "Machines that policy keep left standing." },
	{ "pool_building", "gauge", OF(building), METRICS_U32, "Armed clones that are being made." },
	{ "builds_total", "counter", OF(stats.builds), METRICS_U64, "Armed clones made." },
	{ "build_failures_total", "counter", OF(stats.build_failures), METRICS_U64,
	  "Armed clones that could not be made." },
	{ "resets_total", "counter", OF(stats.resets), METRICS_U64, "Machines put back to their template." },
	{ "resets_renewed_total", "counter", OF(stats.resets_renewed), METRICS_U64,
	  "Resets that took longer because page tables may have changed." },
	{ "retired_total", "counter", OF(stats.retired), METRICS_U64, "Armed clones that nobody needed." },
};
/* clang-format on */

static void metrics_number(const struct pool *pool, const struct metrics_number *m, FILE *out)
{
	metrics_family(out, m->name, m->type, m->help);
	for (const struct function *f = metrics_live(pool->functions); f;
	     f = metrics_live(f->next)) {
		const char *at = (const char *)f + m->offset;

		fprintf(out, "virga_%s{function=\"%s\"} ", m->name, f->config.name);
		if (m->kind == METRICS_U32)
			fprintf(out, "%u\n", *(const unsigned *)(const void *)at);
		else if (m->kind == METRICS_U64)
			fprintf(out, "%" PRIu64 "\n", *(const uint64_t *)(const void *)at);
		else
			fprintf(out, "%.3f\n", *(const double *)(const void *)at);
	}
}

static void metrics_pools(const struct pool *pool, FILE *out)
{
	char labels[160];

	for (size_t i = 0; i < sizeof(metrics_numbers) / sizeof(metrics_numbers[0]); i++)
		metrics_number(pool, &metrics_numbers[i], out);
	metrics_family(out, "build_seconds", "histogram",
		       "From the order for an armed clone to it.");
	for (const struct function *f = metrics_live(pool->functions); f;
	     f = metrics_live(f->next)) {
		snprintf(labels, sizeof(labels), "function=\"%s\"", f->config.name);
		metrics_histogram(out, "build_seconds", labels, &f->stats.build);
	}
	metrics_family(out, "template_info", "gauge", "The version that new requests get.");
	for (const struct function *f = metrics_live(pool->functions); f; f = metrics_live(f->next))
		fprintf(out, "virga_template_info{function=\"%s\",version=\"%s\"} %d\n",
			f->config.name, f->version ? f->version->tag : "", f->version != NULL);
}

static void metrics_host(struct lambda *lambda, FILE *out)
{
	const struct pool *pool = lambda->pool;
	const struct http_server *http = lambda->http;
	unsigned bare = 0;

	for (const struct shape *shape = pool->shapes; shape; shape = shape->next)
		bare += shape->ready_count;
	metrics_one(out, "shells", "gauge", "Machines' processes.", pool->alive);
	metrics_one(out, "shells_max", "gauge", "Machines' processes, at most.",
		    pool->limits.shells);
	metrics_one(out, "shells_bare", "gauge", "Bare shells that wait.", bare);
	metrics_one(out, "shells_held", "gauge", "Those that have answered and are still there.",
		    pool->held_count);
	metrics_one(out, "bare_builds_total", "counter", "Bare shells made.",
		    pool->stats.bare_builds);
	metrics_one(out, "shells_killed_total", "counter", "Ended whatever they did.",
		    pool->stats.killed);
	metrics_one(out, "shells_died_total", "counter", "Ended unasked.", pool->stats.died);
	metrics_one(out, "spawner_starts_total", "counter", "Spawners started.",
		    pool->stats.spawner_starts);
	metrics_one(out, "connections", "gauge", "Connections that are open.", http->count);
	metrics_one(out, "connections_total", "counter", "Connections that were accepted.",
		    http->accepted);
	metrics_one(out, "connections_refused_total", "counter", "Turned away, being too many.",
		    http->turned_away);
	metrics_one(out, "connections_broken_total", "counter", "Ended in the middle of something.",
		    http->broken);
	metrics_one(out, "requests_total", "counter", "HTTP requests of all kinds.",
		    lambda->requests);
	metrics_one(out, "log_lines_dropped_total", "counter", "Log lines that nobody took.",
		    log_dropped(lambda->log));
	metrics_family(out, "uptime_seconds", "gauge", "Since the front began.");
	fprintf(out, "virga_uptime_seconds %.3f\n",
		(double)(monotonic_us() - lambda->start_us) / 1e6);
	metrics_family(out, "build_info", "gauge", "The program.");
	fputs("virga_build_info{version=\"" VIRGA_VERSION "\"} 1\n", out);
}

void report_metrics(struct lambda *lambda, FILE *out)
{
	metrics_requests(lambda->pool, out);
	metrics_pools(lambda->pool, out);
	metrics_host(lambda, out);
}
