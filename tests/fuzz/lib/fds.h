/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors are open, in one system call: a target that leaves one behind has found something. */
#ifndef VIRGA_TESTS_FUZZ_FDS_H
#define VIRGA_TESTS_FUZZ_FDS_H

/* Of the first 256. */
unsigned fds_open(void);

#endif
