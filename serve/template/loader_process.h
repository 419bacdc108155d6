/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in a loader's process (serve/template/loader.h).
 */
#ifndef VIRGA_SERVE_TEMPLATE_LOADER_PROCESS_H
#define VIRGA_SERVE_TEMPLATE_LOADER_PROCESS_H

#define LOADER_NAME "virga-loader" /* argv[0] */

/*
 * The life of a loader, a program of its own: argv[1] is the process id of the front, which is at the other
 * end of CHILD_FD (serve/ipc/child.h), argv[2] the memory of the embedded guest in bytes (0: the default),
 * argv[3] the path of a template, NULL for the embedded guest. Its status.
 */
int loader_main(char *const argv[]);

#endif
