/* SPDX-License-Identifier: Apache-2.0 */
/* renameat2(2) by number, and without it (arch/base/rename.h). */
#include "arch/base/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h, which defines too much else. */
#define FLAG_NO_REPLACE 1u
#define FLAG_EXCHANGE   2u

static int rename_with(const char *from, const char *to, unsigned flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags) < 0 ? -errno : 0;
}

int rename_no_replace(const char *from, const char *to)
{
	return rename_with(from, to, FLAG_NO_REPLACE);
}

int rename_exchange(const char *one, const char *other)
{
	return rename_with(one, other, FLAG_EXCHANGE);
}

int rename_file_no_replace(const char *from, const char *to)
{
	int ret = rename_no_replace(from, to);

	if (ret != -EINVAL)
		return ret;
	if (link(from, to) < 0)
		return errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP ? -EINVAL : -errno;
	if (unlink(from) == 0)
		return 0;
	ret = -errno;
	unlink(to);
	return ret;
}

int rename_dir_no_replace(const char *from, const char *to)
{
	int ret = rename_no_replace(from, to);
	struct stat st;

	if (ret != -EINVAL)
		return ret;
	if (lstat(to, &st) == 0)
		return -EEXIST;
	if (rename(from, to) == 0)
		return 0;
	return errno == ENOTEMPTY || errno == ENOTDIR ? -EEXIST : -errno;
}
