/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page table entries of the embedded guest, for C and assembler. Accessed and dirty
 * are set from the start: a CPU, or KVM for it, that finds them set writes nothing.
 */
#ifndef VIRGA_GUEST_BUILTIN_PAGING_H
#define VIRGA_GUEST_BUILTIN_PAGING_H

#define PAGING_TABLE  0x27 /* present, writable, user, accessed */
#define PAGING_PAGE   0x67 /* ... dirty, 4 KiB */
#define PAGING_LARGE  0xe7 /* ... dirty, 2 MiB */
#define PAGING_DEVICE 0xff /* ... cache disabled */

#endif
