/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical layout of the ISA that virga is built for; nobody names an ISA's own header.
 */
#ifndef VIRGA_ARCH_LAYOUT_H
#define VIRGA_ARCH_LAYOUT_H

#if defined(__x86_64__)
#include "arch/x86_64/layout.h"
#else
#error "virga has no machine for this ISA"
#endif

#endif
