/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /: functions, pools and latency for people, in one page without assets or scripts that
 * asks for itself anew.
 */
#include <inttypes.h>

#include "arch/base/clock.h"
#include "serve/host/report.h"
#include "vmm.h"

#define PAGE_BAR_WIDTH 40u

static const char status_page_head[] =
	"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	"<meta http-equiv=\"refresh\" content=\"2\"><title>virga</title>\n<style>\n"
	"body{font:15px/1.45 system-ui,sans-serif;margin:2em;max-width:72em;color:#222}\n"
	"h1{font-size:1.3em}h2{font-size:1.05em;margin:1.6em 0 .4em}\n"
	"table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:right}\n"
	"td:first-child,th:first-child{text-align:left}th{font-weight:600;border-bottom:1px solid "
	"#bbb}\n"
	".bar{display:inline-block;height:.75em;background:#3a7;min-width:1px}\n"
	".none{color:#888}</style></head><body>\n";

static void status_page_functions(const struct pool *pool, FILE *out)
{
	fputs("<h2>Functions</h2><table><tr><th>function</th><th>policy</th><th>version</th>"
	      "<th>memory</th><th>armed</th><th>wanted</th><th>kept</th><th>run</th><th>wait</th>"
	      "<th>per s</th><th>ok</th><th>errors</th><th>429</th><th>fall-backs</th>"
	      "<th>p50 ms</th><th>p99 ms</th></tr>\n",
	      out);
	for (const struct function *f = pool->functions; f; f = f->next) {
		const struct function_stats *s = &f->stats;
		struct histogram all = { 0 };
		uint64_t fallbacks = 0;

		if (f->removed)
			continue;
		for (unsigned i = 0; i < TIER_COUNT; i++)
			histogram_merge(&all, &s->latency[i]);
		for (unsigned i = 0; i < FALLBACK_COUNT; i++)
			fallbacks += s->fallbacks[i];
		fprintf(out,
			"<tr><td>%s</td><td>%s</td><td>%s</td><td>%" PRIu64 " MiB</td><td>%u</td>"
			"<td>%u</td><td>%u</td><td>%u</td><td>%u</td><td>%.1f</td><td>%" PRIu64
			"</td><td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64
			"</td><td>%.3f</td><td>%.3f</td></tr>\n",
			f->config.name, policy_name(f->config.policy),
			f->version ? f->version->tag : "none",
			f->version ? f->version->memory_size >> 20 : 0, f->armed_count, f->target,
			f->kept_count, f->active, f->waiting, f->rate, s->results[RESULT_OK],
			s->results[RESULT_FUNCTION_ERROR] + s->results[RESULT_TIMEOUT] +
				s->results[RESULT_HOST_ERROR],
			s->results[RESULT_THROTTLED], fallbacks,
			(double)histogram_quantile_us(&all, 500) / 1000,
			(double)histogram_quantile_us(&all, 990) / 1000);
	}
	fputs("</table>\n", out);
}

static void status_page_histogram(const struct pool *pool, FILE *out)
{
	struct histogram all = { 0 };
	unsigned first = 0, last = HISTOGRAM_BUCKETS;
	uint64_t most = 1;

	for (const struct function *f = pool->functions; f; f = f->next)
		for (unsigned i = 0; i < TIER_COUNT; i++)
			histogram_merge(&all, &f->stats.latency[i]);
	fputs("<h2>Latency, first byte of the request to the answer</h2>\n", out);
	if (!all.count) {
		fputs("<p class=\"none\">No request has been answered yet.</p>\n", out);
		return;
	}
	while (!all.buckets[first])
		first++;
	while (!all.buckets[last - 1])
		last--;
	for (unsigned i = first; i < last; i++)
		most = all.buckets[i] > most ? all.buckets[i] : most;
	fputs("<table><tr><th>up to, ms</th><th>requests</th><th></th></tr>\n", out);
	for (unsigned i = first; i < last; i++)
		fprintf(out,
			"<tr><td>%.3f</td><td>%" PRIu64
			"</td><td style=\"text-align:left\"><span class=\"bar\" "
			"style=\"width:%.2fem\"></span></td></tr>\n",
			i == HISTOGRAM_BUCKETS - 1 ? 1e6 : (double)histogram_limit_us(i) / 1000,
			all.buckets[i], (double)all.buckets[i] * PAGE_BAR_WIDTH / (double)most);
	fputs("</table>\n", out);
}

void report_page(struct lambda *lambda, FILE *out)
{
	const struct pool *pool = lambda->pool;

	fputs(status_page_head, out);
	fprintf(out,
		"<h1>virga " VIRGA_VERSION "</h1><p>%s, up %.0f s, %u connections, %u of %u "
		"shells in use, %u held. <a href=\"/metrics\">metrics</a>, "
		"<a href=\"/status\">status</a></p>\n",
		report_state(lambda), (double)(monotonic_us() - lambda->start_us) / 1e6,
		lambda->http->count, pool->alive, pool->limits.shells, pool->held_count);
	status_page_functions(pool, out);
	status_page_histogram(pool, out);
	fputs("</body></html>\n", out);
}
