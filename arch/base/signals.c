/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inherited dispositions and the inherited mask (arch/base/signals.h). A parent that ignores SIGCHLD
 * would otherwise take from us how our children ended.
 */
#include "arch/base/signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * signal(7): the standard ones. Of the real-time ones virga waits for two, blocked, and a blocked
 * signal waits even where it is ignored; each call here is paid by every start.
 */
#define SIGNALS_STANDARD 31

/* Whether an ignored one is the will of the shell, or of nohup(1). */
static bool signals_of_terminal(int number)
{
	switch (number) {
	case SIGHUP:
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
		return true;
	default:
		return false;
	}
}

void signals_begin(void)
{
	sigset_t none;

	for (int number = 1; number <= SIGNALS_STANDARD; number++)
		if (number != SIGKILL && number != SIGSTOP && !signals_of_terminal(number))
			signal(number, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void signals_block_ends(void)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction how;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (sigaction(ends[i], NULL, &how) < 0 || how.sa_handler != SIG_IGN)
			sigaddset(&set, ends[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}
