/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/dir.c: what is there before, meanwhile and afterwards; a writer that
 * fails at any call leaves nothing, one that is killed leaves what the next removes.
 *
 * wrap: fsync syscall openat write
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"

static char root[] = "/tmp/test_snapshot_dir.XXXXXX";
static char path[128], tmp_path[128];

/* Calls of one kind before the one that fails; -1: none does. */
static long fsyncs_left = -1, opens_left = -1, writes_left = -1;
static long fsyncs;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
long __real_syscall(long number, long a, const char *from, long b, const char *to, long flags);
long __wrap_syscall(long number, long a, const char *from, long b, const char *to, long flags);
int __real_openat(int dir_fd, const char *name, int flags, mode_t mode);
int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);

static bool fails(long *left)
{
	if (*left < 0)
		return false;
	if (*left == 0)
		return true;
	--*left;
	return false;
}

int __wrap_fsync(int fd)
{
	fsyncs++;
	if (fails(&fsyncs_left)) {
		errno = EIO;
		return -1;
	}
	return __real_fsync(fd);
}

int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode)
{
	if (fails(&opens_left)) {
		errno = EMFILE;
		return -1;
	}
	return __real_openat(dir_fd, name, flags, mode);
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	if (fd != STDERR_FILENO && fails(&writes_left)) {
		errno = ENOSPC;
		return -1;
	}
	return __real_write(fd, data, len);
}

static bool meanwhile_made; /* somebody makes PATH just before the rename */

long __wrap_syscall(long number, long a, const char *from, long b, const char *to, long flags)
{
	if (number == SYS_renameat2 && meanwhile_made)
		assert_int_equal(mkdir(to, 0700), 0);
	return __real_syscall(number, a, from, b, to, flags);
}

static bool exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void make_file(const char *dir, const char *name)
{
	char full[256];
	int fd;

	snprintf(full, sizeof(full), "%s/%s", dir, name);
	fd = open(full, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void remove_dir(const char *dir)
{
	static const char *const names[] = { "config", "state", "memory", "other" };
	char full[256];

	for (size_t i = 0; i < 4; i++) {
		snprintf(full, sizeof(full), "%s/%s", dir, names[i]);
		unlink(full);
	}
	rmdir(dir);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/snap", root);
	snprintf(tmp_path, sizeof(tmp_path), "%s/snap.tmp", root);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(root);
}

static int clear(void **state)
{
	(void)state;
	fsyncs_left = opens_left = writes_left = -1;
	meanwhile_made = false;
	remove_dir(path);
	remove_dir(tmp_path);
	return 0;
}

static void expect(int ret, int err, const char *words)
{
	assert_int_equal(ret, -err);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

static void test_create_commit(void **state)
{
	unsigned before = open_files();
	struct snapshot_dir dir;
	struct stat st;
	char full[256];

	(void)state;
	assert_int_equal(snapshot_dir_create(&dir, path, "{}\n", 3), 0);
	assert_string_equal(dir.path, path);
	assert_string_equal(dir.tmp_path, tmp_path);
	assert_int_equal(write(dir.memory_fd, "memory", 6), 6);
	assert_int_equal(write(dir.state_fd, "state", 5), 5);
	assert_false(exists(path));
	fsyncs = 0;
	assert_int_equal(snapshot_dir_commit(&dir), 0);
	assert_int_equal(fsyncs, 5); /* three files, their directory, its directory */
	assert_false(exists(tmp_path));
	snprintf(full, sizeof(full), "%s/memory", path);
	assert_int_equal(stat(full, &st), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(st.st_mode & 0777, 0600);
	snprintf(full, sizeof(full), "%s/config", path);
	assert_int_equal(stat(full, &st), 0);
	assert_int_equal(st.st_size, 3);
	snapshot_dir_abort(&dir);
	assert_true(exists(path));
	assert_int_equal(open_files(), before);
}

static void test_abort(void **state)
{
	unsigned before = open_files();
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(snapshot_dir_create(&dir, path, "{}\n", 3), 0);
	snapshot_dir_abort(&dir);
	assert_false(exists(path) || exists(tmp_path));
	snapshot_dir_abort(&dir);
	dir = (struct snapshot_dir){ .dir_fd = -1, .state_fd = -1, .memory_fd = -1 };
	snapshot_dir_abort(&dir);
	assert_int_equal(open_files(), before);
}

static void test_exists(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	expect(snapshot_dir_create(&dir, path, "", 0), EEXIST, "snap: exists already");
	assert_false(exists(tmp_path));
	rmdir(path);
	make_file(root, "snap");
	expect(snapshot_dir_create(&dir, path, "", 0), EEXIST, "snap: exists already");
	unlink(path);
	assert_int_equal(symlink("/nonexistent", path), 0);
	expect(snapshot_dir_create(&dir, path, "", 0), EEXIST, "snap: exists already");
	unlink(path);
}

static void test_names(void **state)
{
	struct snapshot_dir dir;
	char slashed[256];

	(void)state;
	expect(snapshot_dir_create(&dir, "", "", 0), EINVAL, "empty");
	expect(snapshot_dir_create(&dir, "/", "", 0), EEXIST, "/: exists");
	expect(snapshot_dir_create(&dir, "/nonexistent/x", "", 0), ENOENT, "/nonexistent/x.tmp");
	expect(snapshot_dir_create(&dir, "/dev/null/x", "", 0), ENOTDIR, "/dev/null/x");
	expect(snapshot_dir_create(&dir, tmp_path, "", 0), EINVAL, "snap.tmp: ends in .tmp");
	snprintf(slashed, sizeof(slashed), "%s//", tmp_path);
	expect(snapshot_dir_create(&dir, slashed, "", 0), EINVAL, "ends in .tmp");
	assert_false(exists(tmp_path));
	snprintf(slashed, sizeof(slashed), "%s//", path);
	assert_int_equal(snapshot_dir_create(&dir, slashed, "", 0), 0);
	assert_string_equal(dir.tmp_path, tmp_path);
	snapshot_dir_abort(&dir);
}

static void test_left_over(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(mkdir(tmp_path, 0700), 0);
	make_file(tmp_path, "memory");
	make_file(tmp_path, "config");
	assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
	assert_int_equal(snapshot_dir_commit(&dir), 0);
	snapshot_dir_abort(&dir);
	assert_true(exists(path));
}

static void test_left_over_of_others(void **state)
{
	struct snapshot_dir dir;
	char full[256];

	(void)state;
	assert_int_equal(mkdir(tmp_path, 0700), 0);
	make_file(tmp_path, "memory");
	make_file(tmp_path, "other");
	expect(snapshot_dir_create(&dir, path, "", 0), EEXIST, "'other'");
	snprintf(full, sizeof(full), "%s/memory", tmp_path);
	assert_true(exists(full));
	remove_dir(tmp_path);

	make_file(root, "snap.tmp");
	expect(snapshot_dir_create(&dir, path, "", 0), ENOTDIR, "snap.tmp");
	assert_true(exists(tmp_path));
	unlink(tmp_path);

	assert_int_equal(symlink("/tmp", tmp_path), 0);
	assert_true(snapshot_dir_create(&dir, path, "", 0) < 0);
	unlink(tmp_path);
}

static void test_live_lock(void **state)
{
	struct snapshot_dir first, second;
	pid_t child;
	int fds[2], status;
	char c;

	(void)state;
	assert_int_equal(snapshot_dir_create(&first, path, "{}", 2), 0);
	expect(snapshot_dir_create(&second, path, "", 0), EBUSY,
	       "another snapshot is being written");
	assert_true(exists(tmp_path));

	/* The lock is held by whoever inherited it, also when its maker is gone. */
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		close(fds[1]);
		_exit(read(fds[0], &c, 1) != 0);
	}
	close(fds[0]);
	close(first.dir_fd);
	first.dir_fd = -1;
	expect(snapshot_dir_create(&second, path, "", 0), EBUSY, "being written");
	close(fds[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(snapshot_dir_create(&second, path, "{}", 2), 0);
	snapshot_dir_abort(&second);
	snapshot_dir_abort(&first);
}

static void test_made_meanwhile(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
	meanwhile_made = true;
	expect(snapshot_dir_commit(&dir), EEXIST, "made by another meanwhile");
	assert_false(exists(tmp_path));
	assert_true(exists(path));
}

static void test_removed_meanwhile(void **state)
{
	struct snapshot_dir dir;
	char full[256];

	(void)state;
	assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
	remove_dir(tmp_path);
	expect(snapshot_dir_commit(&dir), ENOENT, "went away while");
	assert_false(exists(path) || exists(tmp_path));

	assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
	snprintf(full, sizeof(full), "%s/state", tmp_path);
	unlink(full);
	expect(snapshot_dir_commit(&dir), ENOENT, "state: went away while");
	assert_false(exists(path) || exists(tmp_path));

	/* Another directory in its place is neither renamed nor removed. */
	assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
	snprintf(full, sizeof(full), "%s/moved", root);
	assert_int_equal(rename(tmp_path, full), 0);
	assert_int_equal(mkdir(tmp_path, 0700), 0);
	make_file(tmp_path, "other");
	expect(snapshot_dir_commit(&dir), ENOENT, "went away while");
	assert_false(exists(path));
	assert_true(exists(tmp_path));
	rmdir(full);
}

/* The Nth call of each kind fails: an error, nothing left, nothing leaked. */
static void test_failures(void **state)
{
	long *const kinds[] = { &opens_left, &writes_left, &fsyncs_left };
	unsigned before = open_files();

	(void)state;
	for (size_t kind = 0; kind < 3; kind++) {
		for (long n = 0;; n++) {
			struct snapshot_dir dir;
			int ret;

			assert_true(n < 50);
			*kinds[kind] = n;
			ret = snapshot_dir_create(&dir, path, "{}", 2);
			if (ret == 0)
				ret = snapshot_dir_commit(&dir);
			*kinds[kind] = -1;
			snapshot_dir_abort(&dir);
			assert_false(exists(tmp_path));
			assert_int_equal(open_files(), before);
			if (ret == 0)
				break;
			assert_non_null(strstr(error_text(), "snap"));
			/* Only the last fsync comes after the rename. */
			if (exists(path))
				assert_true(kind == 2 && n == 4);
			remove_dir(path);
		}
		assert_true(exists(path));
		remove_dir(path);
	}
}

static void test_disk_full(void **state)
{
	char text[64 * 1024];
	char name[256];
	struct snapshot_dir dir;

	(void)state;
	if (geteuid() != 0 || mount("none", root, "tmpfs", 0, "size=32k") < 0) {
		print_message("needs root for a tiny tmpfs\n");
		skip();
	}
	memset(text, ' ', sizeof(text));
	expect(snapshot_dir_create(&dir, path, text, sizeof(text)), ENOSPC,
	       "snap.tmp/config: cannot write 65536 bytes");
	snprintf(name, sizeof(name), "%s", tmp_path);
	assert_false(exists(name));
	assert_int_equal(umount(root), 0);
}

/* Writers killed at random moments: PATH is there and whole, or the next can make it. */
static void test_killed_writer(void **state)
{
	(void)state;
	srand(1);
	for (unsigned i = 0; i < 100; i++) {
		struct snapshot_dir dir;
		char full[256];
		struct stat st;
		pid_t child = fork();

		if (child == 0) {
			if (snapshot_dir_create(&dir, path, "{}", 2) < 0 ||
			    write(dir.state_fd, "state", 5) != 5 || snapshot_dir_commit(&dir) < 0)
				_exit(1);
			_exit(0);
		}
		usleep((useconds_t)(rand() % 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		if (!exists(path)) {
			assert_int_equal(snapshot_dir_create(&dir, path, "{}", 2), 0);
			assert_int_equal(write(dir.state_fd, "state", 5), 5);
			assert_int_equal(snapshot_dir_commit(&dir), 0);
			snapshot_dir_abort(&dir);
		}
		snprintf(full, sizeof(full), "%s/state", path);
		assert_int_equal(stat(full, &st), 0);
		assert_int_equal(st.st_size, 5);
		assert_false(exists(tmp_path));
		remove_dir(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_create_commit, clear),
		cmocka_unit_test_teardown(test_abort, clear),
		cmocka_unit_test_teardown(test_exists, clear),
		cmocka_unit_test_teardown(test_names, clear),
		cmocka_unit_test_teardown(test_left_over, clear),
		cmocka_unit_test_teardown(test_left_over_of_others, clear),
		cmocka_unit_test_teardown(test_live_lock, clear),
		cmocka_unit_test_teardown(test_made_meanwhile, clear),
		cmocka_unit_test_teardown(test_removed_meanwhile, clear),
		cmocka_unit_test_teardown(test_failures, clear),
		cmocka_unit_test_teardown(test_disk_full, clear),
		cmocka_unit_test_teardown(test_killed_writer, clear),
	};

	return cmocka_run_group_tests_name("snapshot_dir", tests, setup, teardown);
}
