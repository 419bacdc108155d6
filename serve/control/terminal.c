/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode and back (serve/control/terminal.h; termios(3)).
 */
#include "serve/control/terminal.h"

#include <signal.h>
#include <unistd.h>

void terminal_raw(struct terminal *t)
{
	struct termios raw;

	/* Setting it from the background would stop the whole process group. */
	if (tcgetpgrp(STDIN_FILENO) != getpgrp() || tcgetattr(STDIN_FILENO, &raw) < 0)
		return;
	if (!t->raw)
		t->saved = raw;
	raw = t->saved;
	raw.c_iflag &=
		~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
	raw.c_cflag |= CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0)
		t->raw = true;
}

void terminal_restore(struct terminal *t)
{
	sigset_t stop, before;

	/* Blocked, it lets us set a terminal whose background we have become. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &stop, &before);
	if (t->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
	t->raw = false;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
