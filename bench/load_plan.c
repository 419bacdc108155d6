/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of the command line, made into a plan (bench/load.h).
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"

#define CONNECTIONS_MAX 10000

static const char help[] =
	"usage: load open   --to ADDRESS --body TEXT --expect TEXT --requests N --rate R\n"
	"       load closed --to ADDRESS --body TEXT --expect TEXT --seconds S\n"
	"       load burst  --to ADDRESS --body TEXT --expect TEXT --requests K\n"
	"\n"
	"Sends HTTP/1.1 requests over kept connections, checks every answer, prints JSON.\n"
	"\n"
	"  open     N requests, R a second, each at its time whatever the server does\n"
	"  closed   each connection sends the next request when its answer is whole\n"
	"  burst    K requests at once on K open connections, then the next round\n"
	"\n"
	"  --to ADDRESS       unix:PATH or IP:PORT\n"
	"  --path PATH        what to POST to (/2015-03-31/functions/builtin/invocations)\n"
	"  --body TEXT        of the request; every %n becomes the request's number, from 0\n"
	"  --expect TEXT      the body of the right answer, with %n as well\n"
	"  --connections C    open: at most so many (64); closed: exactly so many (1)\n"
	"  --rounds N         burst: so many rounds (1)\n"
	"  --pause MS         burst: before each round (100)\n"
	"  --timeout MS       for one request, with connecting (10000)\n"
	"  --header NAME      collect this header of every answer; may be repeated\n"
	"\n"
	"Output: requests, right, seconds, rate (right answers a second), connections (opened in\n"
	"all), latencies_us (of right answers, in the order of sending: write(2) to the first "
	"byte),\n"
	"late_us (of every request sent, behind its time in an open loop or behind the first of "
	"its\n"
	"burst), bursts_us (first write to the last byte of all answers; null when one failed),\n"
	"headers (beside latencies_us), statuses, errors. Status 1 when there was an error.\n";

static void __attribute__((noreturn, format(printf, 1, 2))) plan_fail(const char *fmt, ...)
{
	va_list ap;

	fputs("load: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("; see load --help\n", stderr);
	exit(2);
}

static double plan_number(const char *option, const char *text, double min, double max)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end || !(number >= min && number <= max))
		plan_fail("--%s: '%s' is not a number from %g to %g", option, text, min, max);
	return number;
}

static uint64_t plan_count(const char *option, const char *text, double min, double max)
{
	double number = plan_number(option, text, min, max);

	if (number != (double)(uint64_t)number)
		plan_fail("--%s: '%s' is not a whole number", option, text);
	return (uint64_t)number;
}

static void plan_add_header(struct plan *plan, const char *name)
{
	if (plan->header_count == HEADERS_MAX)
		plan_fail("--header: more than %d", HEADERS_MAX);
	plan->headers[plan->header_count++] = name;
}

static void plan_option(struct plan *plan, int option, const char *name, const char *value)
{
	switch (option) {
	case 't':
		if (!address_parse(&plan->to, value))
			plan_fail("--to: '%s' is neither unix:PATH nor IP:PORT", value);
		break;
	case 'p':
		if (value[0] != '/' || strpbrk(value, " \r\n"))
			plan_fail("--path: '%s' does not begin with / or has a blank", value);
		plan->path = value;
		break;
	case 'b':
		plan->body = value;
		break;
	case 'e':
		plan->expect = value;
		break;
	case 'n':
		plan->requests = plan_count(name, value, 1, 1e7);
		break;
	case 'r':
		plan->rate = plan_number(name, value, 0.01, 1e6);
		break;
	case 's':
		plan->seconds = plan_number(name, value, 0.01, 1e5);
		break;
	case 'c':
		plan->connections = (unsigned)plan_count(name, value, 1, CONNECTIONS_MAX);
		break;
	case 'R':
		plan->rounds = (unsigned)plan_count(name, value, 1, 1e6);
		break;
	case 'P':
		plan->pause_ms = (unsigned)plan_count(name, value, 0, 1e6);
		break;
	case 'T':
		plan->timeout_ms = (unsigned)plan_count(name, value, 1, 1e6);
		break;
	case 'H':
		plan_add_header(plan, value);
		break;
	}
}

/* The options of each mode beside those of all, by their letters. */
static const struct {
	const char *name;
	const char *needed;
	const char *allowed;
} modes[] = {
	[MODE_OPEN] = { "open", "nr", "nrc" },
	[MODE_CLOSED] = { "closed", "s", "sc" },
	[MODE_BURST] = { "burst", "n", "nRP" },
};

static const struct option options[] = {
	{ "to", 1, NULL, 't' },       { "path", 1, NULL, 'p' },
	{ "body", 1, NULL, 'b' },     { "expect", 1, NULL, 'e' },
	{ "requests", 1, NULL, 'n' }, { "rate", 1, NULL, 'r' },
	{ "seconds", 1, NULL, 's' },  { "connections", 1, NULL, 'c' },
	{ "rounds", 1, NULL, 'R' },   { "pause", 1, NULL, 'P' },
	{ "timeout", 1, NULL, 'T' },  { "header", 1, NULL, 'H' },
	{ "help", 0, NULL, 'h' },     { NULL, 0, NULL, 0 },
};

static enum mode plan_mode(const char *word)
{
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(word, modes[i].name))
			return (enum mode)i;
	plan_fail("'%s' is not open, closed or burst", word);
}

/* given: whether the option with a letter was there. */
static void plan_check(const struct plan *plan, const bool *given)
{
	const char *name = modes[plan->mode].name;

	for (const struct option *o = options; o->name; o++) {
		bool common = strchr("tpbeTHh", o->val) != NULL;

		if (given[o->val] && !common && !strchr(modes[plan->mode].allowed, o->val))
			plan_fail("--%s: %s has no such option", o->name, name);
		if (!given[o->val] &&
		    (strchr("tbe", o->val) || strchr(modes[plan->mode].needed, o->val)))
			plan_fail("%s needs --%s", name, o->name);
	}
}

void plan_parse(struct plan *plan, int argc, char **argv)
{
	bool given[128] = { false };
	int letter, index = 0;

	*plan = (struct plan){ .path = "/2015-03-31/functions/builtin/invocations",
			       .rounds = 1,
			       .pause_ms = 100,
			       .timeout_ms = 10000 };
	while ((letter = getopt_long(argc, argv, "", options, &index)) >= 0) {
		if (letter == 'h') {
			fputs(help, stdout);
			exit(0);
		}
		if (letter == '?')
			exit(2); /* getopt_long() has said why */
		given[letter] = true;
		plan_option(plan, letter, options[index].name, optarg);
	}
	if (optind + 1 != argc)
		plan_fail("one mode is wanted: open, closed or burst");
	plan->mode = plan_mode(argv[optind]);
	plan_check(plan, given);
	if (plan->mode == MODE_BURST && plan->requests > CONNECTIONS_MAX)
		plan_fail("burst sends %d requests at most", CONNECTIONS_MAX);
	if (plan->mode == MODE_BURST)
		plan->connections = (unsigned)plan->requests;
	else if (!plan->connections)
		plan->connections = plan->mode == MODE_OPEN ? 64 : 1;
}
