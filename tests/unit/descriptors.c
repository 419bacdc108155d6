/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/descriptors.h.
 */
#include "tests/unit/descriptors.h"

#include <dirent.h>

unsigned descriptors_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
