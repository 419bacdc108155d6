/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renames that never replace, or that exchange two names in one instant: renameat2(2), which musl does
 * not have, and a way round for file systems without its flags (FUSE, NFS, 9p).
 */
#ifndef VIRGA_ARCH_BASE_RENAME_H
#define VIRGA_ARCH_BASE_RENAME_H

/* On failure -errno without a sentence; -EINVAL: this file system cannot do that. */
int rename_no_replace(const char *from, const char *to);
int rename_exchange(const char *one, const char *other);

/*
 * The same without the flag, where it is missing. A file is linked and unlinked: -EINVAL when this file
 * system has no links either. A directory may replace one that another has just made and that is empty,
 * never anything else.
 */
int rename_file_no_replace(const char *from, const char *to);
int rename_dir_no_replace(const char *from, const char *to);

#endif
