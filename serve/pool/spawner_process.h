/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in the spawner's process (serve/pool/spawner.h).
 */
#ifndef VIRGA_SERVE_POOL_SPAWNER_PROCESS_H
#define VIRGA_SERVE_POOL_SPAWNER_PROCESS_H

#define SPAWNER_NAME "virga-spawner" /* argv[0] */

/*
 * The life of the spawner, a program of its own: argv[1] is the process id of the front, which is at the
 * other end of CHILD_FD (serve/ipc/child.h). Its status.
 */
int spawner_main(const char *parent);

#endif
