/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process 1: mounts, console, modules, power. See init.h.
 */
#include "guest/agent/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/random.h>

#define MODULES           "/virga/modules" /* paths, one a line, in the order of loading */
#define MODULE_COMPRESSED 4                /* finit_module: the kernel unpacks it */
#define RESEED_MAX        64u

static void init_mount(const char *type, const char *path)
{
	mkdir(path, 0755);
	if (mount(type, path, type, 0, NULL) != 0 && errno != EBUSY)
		fprintf(stderr, "virga-agent: mount %s: %s\n", path, strerror(errno));
}

/* An initramfs without /dev/console leaves process 1 with nothing at 0, 1 and 2. */
static void init_console(void)
{
	int fd;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	fd = open("/dev/console", O_RDWR);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	for (int i = 0; fd >= 0 && i < 3; i++) {
		if (i != fd)
			dup2(fd, i);
	}
}

static void init_load_module(const char *path)
{
	const char *dot = strrchr(path, '.');
	int flags = dot && strcmp(dot, ".ko") != 0 ? MODULE_COMPRESSED : 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) != 0 && errno != EEXIST))
		fprintf(stderr, "virga-agent: module %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void init_load_modules(void)
{
	FILE *list = fopen(MODULES, "re");
	char *line = NULL;
	size_t size = 0;

	if (!list)
		return;
	while (getline(&line, &size, list) > 0) {
		line[strcspn(line, " \t\n")] = '\0';
		if (line[0] != '\0' && line[0] != '#')
			init_load_module(line);
	}
	free(line);
	fclose(list);
}

void init_machine(void)
{
	init_mount("devtmpfs", "/dev");
	init_console();
	init_mount("proc", "/proc");
	init_mount("sysfs", "/sys");
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
	setenv("HOME", "/root", 0);
	init_load_modules();
}

void init_power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

char *init_option(const char *key)
{
	FILE *file = fopen("/proc/cmdline", "re");
	char *line = NULL, *found = NULL, *rest = NULL;
	size_t size = 0, len = strlen(key);

	if (!file)
		return NULL;
	if (getline(&line, &size, file) > 0) {
		for (char *word = strtok_r(line, " \n", &rest); word;
		     word = strtok_r(NULL, " \n", &rest)) {
			if (strncmp(word, key, len) == 0 && word[len] == '=') {
				free(found);
				found = strdup(word + len + 1);
			}
		}
	}
	free(line);
	fclose(file);
	return found;
}

void init_reseed(const void *data, size_t len)
{
	struct {
		int entropy_bits;
		int size;
		uint8_t bytes[RESEED_MAX];
	} pool = { 0 };
	int fd = open("/dev/random", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	if (len > sizeof(pool.bytes))
		len = sizeof(pool.bytes);
	memcpy(pool.bytes, data, len);
	pool.size = (int)len;
	pool.entropy_bits = 8 * (int)len;
	if (ioctl(fd, RNDADDENTROPY, &pool) == 0)
		(void)ioctl(fd, RNDRESEEDCRNG);
	close(fd);
}
