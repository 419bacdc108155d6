/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process inherits of signals from whoever started it.
 */
#ifndef VIRGA_ARCH_BASE_SIGNALS_H
#define VIRGA_ARCH_BASE_SIGNALS_H

/*
 * First thing in main: no signal is blocked, and each has its default but SIGPIPE and SIGXFSZ, which
 * are ignored (a write fails with EPIPE or EFBIG instead), and those by which a shell or nohup(1)
 * keeps a program from its terminal (SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU), which stay
 * ignored where they are.
 */
void signals_begin(void);

/*
 * Blocks SIGTERM, SIGINT and SIGHUP in the calling thread, for whoever waits for them. One that is
 * ignored is left as it is: it never comes, not to signalfd(2) or sigwaitinfo(2) either.
 */
void signals_block_ends(void);

#endif
