/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the program's relocated data read-only where the C library did not.
 */
#ifndef VIRGA_SECCOMP_RELRO_H
#define VIRGA_SECCOMP_RELRO_H

/* Once, first thing in main. 0 or -errno with a sentence; harmless when it was done before. */
int relro_protect(void);

#endif
