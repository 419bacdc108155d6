/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template of the embedded guest, made in memory when the function host starts: the guest is
 * part of the program, so no file of it could be newer or older than that.
 */
#ifndef VIRGA_SERVE_TEMPLATE_BUILTIN_H
#define VIRGA_SERVE_TEMPLATE_BUILTIN_H

#include <stdint.h>

#include "boot/snapshot/sealed.h"

/*
 * Boots it with so many bytes of memory (0: the default), warms it up, and learns its working set. In
 * a process that may fork and wait: about 0.2 s. 0 or -errno with a sentence.
 */
int builtin_make(struct sealed *sealed, uint64_t memory);

#endif
