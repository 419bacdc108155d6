/* SPDX-License-Identifier: Apache-2.0 */
/* The function host's configuration, as the file that it is read from. */
#include "serve/host/config.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/lib/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[32];
	static int fd;
	struct host_config config;

	if (!fd) {
		fd = memfd_create("fuzz", 0);
		must(fd > 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	host_config_init(&config);
	must(host_config_read(&config, path) <= 0);
	host_config_fini(&config);
	return 0;
}
