/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of progress (serve/template/progress.h). */
#include "serve/template/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

#define PROGRESS_WAIT_US 1000000u

void progress_init(struct progress *p, const char *name)
{
	*p = (struct progress){
		.name = name,
		.talk = isatty(STDERR_FILENO),
		.start_us = monotonic_us(),
		.wait_us = PROGRESS_WAIT_US,
	};
}

void progress_say(const struct progress *p, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!p->talk)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	notef("%s: %6.2f s  %s", p->name, (double)(monotonic_us() - p->start_us) / 1e6, text);
}

void progress_bytes(struct progress *p, const char *verb, uint64_t done, uint64_t total)
{
	if (!p->talk || monotonic_us() - p->start_us < p->wait_us)
		return;
	if (total)
		progress_say(p, "%llu of %llu MiB %s", (unsigned long long)(done >> 20),
			     (unsigned long long)(total >> 20), verb);
	else
		progress_say(p, "%llu MiB %s", (unsigned long long)(done >> 20), verb);
	p->wait_us *= 2;
}
