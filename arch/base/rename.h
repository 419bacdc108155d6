/* SPDX-License-Identifier: Apache-2.0 */
/*
 * renameat2(2), which musl does not have: a rename that never replaces, or that
 * exchanges two names in one instant.
 */
#ifndef VIRGA_ARCH_BASE_RENAME_H
#define VIRGA_ARCH_BASE_RENAME_H

/* On failure -errno without a sentence; -EINVAL: this file system cannot do that. */
int rename_no_replace(const char *from, const char *to);
int rename_exchange(const char *one, const char *other);

#endif
