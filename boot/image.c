/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: kernels and initrds as bytes in memory, and what a kernel image is. What
 * is inside belongs to elf.c and bzimage.c, what is none to mistaken.c.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/sigbus.h"
#include "boot/boot.h"

/* From the assembly file that the build makes of the embedded guest. */
extern const uint8_t builtin_guest_start[], builtin_guest_end[];

static int image_check_file(const struct stat *st, const char *path)
{
	if (S_ISDIR(st->st_mode))
		return failf(EISDIR, "%s is a directory: name a file in it", path);
	if (!S_ISREG(st->st_mode))
		return failf(EINVAL, "%s is not a regular file: copy it to one first", path);
	if (st->st_size == 0)
		return failf(ENOEXEC, "%s is empty", path);
	return 0;
}

static int image_map(struct image *image, int fd, const char *path)
{
	struct stat st;
	void *data;
	int ret;

	if (fstat(fd, &st) < 0)
		return failf(errno, "cannot read %s: %s", path, strerror(errno));
	ret = image_check_file(&st, path);
	if (ret < 0)
		return ret;
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return failf(errno, "cannot map %s: %s", path, strerror(errno));
	sigbus_expect(data, (size_t)st.st_size,
		      "a kernel or initrd cannot be read: its file was cut short meanwhile");
	*image = (struct image){
		.name = path, .data = data, .size = (size_t)st.st_size, .mapped = true
	};
	return 0;
}

int image_open(struct image *image, const char *path)
{
	/* O_NONBLOCK: a FIFO without a writer is said to be one, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int ret;

	if (fd < 0)
		return failf(errno, "cannot open %s: %s", path, strerror(errno));
	ret = image_map(image, fd, path);
	close(fd);
	return ret;
}

void image_close(struct image *image)
{
	if (image->mapped) {
		sigbus_forget(image->data);
		munmap((void *)image->data, image->size);
	}
	*image = (struct image){ 0 };
}

struct image image_builtin(void)
{
	return (struct image){
		.name = "(embedded guest)",
		.data = builtin_guest_start,
		.size = (size_t)(builtin_guest_end - builtin_guest_start),
	};
}

/* The first bytes as text when they are some, in hex when not. */
static int image_fail_unknown(const struct image *image)
{
	char start[3 * 8 + 1] = "";
	size_t len = 0;

	while (len < sizeof(start) - 1 && len < image->size && isprint(image->data[len])) {
		start[len] = (char)image->data[len];
		len++;
	}
	start[len] = '\0';
	if (len >= 4 || len == image->size)
		return failf(
			ENOEXEC,
			"kernel %s: this is not a kernel image (starts with \"%s\"): " IMAGE_BOOTS,
			image->name, start);
	for (len = 0; len < 8 && len < image->size; len++) {
		start[3 * len] = len ? ' ' : '\0';
		start[3 * len + 1] = "0123456789abcdef"[image->data[len] >> 4];
		start[3 * len + 2] = "0123456789abcdef"[image->data[len] & 15];
	}
	start[3 * len] = '\0';
	return failf(ENOEXEC,
		     "kernel %s: this is not a kernel image (starts with bytes %s): " IMAGE_BOOTS,
		     image->name, start + 1);
}

static bool image_is_elf(const struct image *image)
{
	return image->size >= SELFMAG && memcmp(image->data, ELFMAG, SELFMAG) == 0;
}

int image_identify(const struct image *image, enum image_kind *kind)
{
	int ret;

	if (image_is_elf(image))
		return elf_identify(image, kind);
	if (bzimage_matches(image)) {
		*kind = IMAGE_BZIMAGE;
		return 0;
	}
	ret = image_refuse_known(image);
	return ret < 0 ? ret : image_fail_unknown(image);
}

bool image_is_linux(const struct image *image)
{
	return bzimage_matches(image) || (image_is_elf(image) && elf_is_linux(image));
}
