/* SPDX-License-Identifier: Apache-2.0 */
/* The mappings, and the handler (arch/base/sigbus.h). */
#include "arch/base/sigbus.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SIGBUS_MAPPINGS 8u

struct sigbus_mapping {
	uintptr_t base; /* 0: free */
	uintptr_t end;
	const char *what;
};

/* A handler has no other way to know. */
static struct {
	struct sigbus_mapping mappings[SIGBUS_MAPPINGS];
	int status;
} sigbus;

/* Async-signal-safe; SA_RESETHAND: who returns from it meets the same fault again, and its default. */
static void sigbus_handle(int signal, siginfo_t *info, void *context)
{
	static const char begin[] = "virga: ", end[] = "\n";
	uintptr_t at = (uintptr_t)info->si_addr;

	(void)signal;
	(void)context;
	/* kill(2): nothing would come again, and a filter may forbid raise(). */
	if (info->si_code <= 0)
		__builtin_trap();
	for (unsigned i = 0; i < SIGBUS_MAPPINGS; i++) {
		const struct sigbus_mapping *m = &sigbus.mappings[i];

		if (!m->base || at < m->base || at >= m->end)
			continue;
		if (write(STDERR_FILENO, begin, sizeof(begin) - 1) < 0 ||
		    write(STDERR_FILENO, m->what, strlen(m->what)) < 0 ||
		    write(STDERR_FILENO, end, sizeof(end) - 1) < 0)
			_exit(sigbus.status);
		_exit(sigbus.status);
	}
}

void sigbus_begin(int status)
{
	struct sigaction how = { .sa_sigaction = sigbus_handle,
				 .sa_flags = SA_SIGINFO | (int)SA_RESETHAND };

	sigbus.status = status;
	sigaction(SIGBUS, &how, NULL);
}

void sigbus_expect(const void *base, size_t len, const char *what)
{
	for (unsigned i = 0; i < SIGBUS_MAPPINGS; i++) {
		struct sigbus_mapping *m = &sigbus.mappings[i];

		if (m->base)
			continue;
		*m = (struct sigbus_mapping){ (uintptr_t)base, (uintptr_t)base + len, what };
		return;
	}
}

void sigbus_forget(const void *base)
{
	for (unsigned i = 0; i < SIGBUS_MAPPINGS; i++)
		if (sigbus.mappings[i].base == (uintptr_t)base)
			sigbus.mappings[i] = (struct sigbus_mapping){ 0 };
}
