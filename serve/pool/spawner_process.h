/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in the spawner's process (serve/pool/spawner.h).
 */
#ifndef VIRGA_SERVE_POOL_SPAWNER_PROCESS_H
#define VIRGA_SERVE_POOL_SPAWNER_PROCESS_H

#include <unistd.h>

#define SPAWNER_NAME "virga-spawner" /* argv[0] */
#define SPAWNER_FILE "/proc/self/exe"
#define SPAWNER_FD   (STDERR_FILENO + 1) /* its socket, and that of a shell */

/*
 * The life of the spawner, a program of its own: argv[1] is the process id of the front, which is at the
 * other end of SPAWNER_FD. Its status.
 */
int spawner_main(const char *parent);

#endif
