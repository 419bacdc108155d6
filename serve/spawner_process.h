/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in the spawner's process (serve/spawner.h).
 */
#ifndef VIRGA_SERVE_SPAWNER_PROCESS_H
#define VIRGA_SERVE_SPAWNER_PROCESS_H

#include <sys/types.h>

/* The life of the spawner, forked by process `parent`, which is at the other end of fd. Its status. */
int spawner_main(int fd, pid_t parent);

#endif
