/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the whole program shares: its version.
 */
#ifndef VIRGA_VMM_H
#define VIRGA_VMM_H

#define VIRGA_VERSION "0.1.0"

#endif
