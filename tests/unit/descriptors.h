/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many descriptors this process has: equal before and after, or something leaked.
 */
#ifndef VIRGA_TESTS_UNIT_DESCRIPTORS_H
#define VIRGA_TESTS_UNIT_DESCRIPTORS_H

unsigned descriptors_open(void);

#endif
