/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/dir.c where it replaces: what may be replaced, and that PATH is at every
 * moment the old one or the new one, whichever call fails and whenever the writer is
 * killed. A "snapshot" here is a `state` that begins as one and a `memory` with a number.
 *
 * wrap: fsync openat write syscall rename unlinkat
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
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/state.h"

static char root[] = "/tmp/test_snapshot_replace.XXXXXX";
static char path[128], tmp_path[128];

/* Calls of one kind before the one that fails; -1: none does. */
static long fsyncs_left = -1, opens_left = -1, writes_left = -1, renames_left = -1;
/* Of file systems without the flags: the error of renameat2(2), of rename(2) of PATH, of unlinkat(2). */
static int no_flags, no_rename, no_unlink;
static bool dies; /* before the new one gets its name */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
long __real_syscall(long number, long a, const char *from, long b, const char *to, long flags);
long __wrap_syscall(long number, long a, const char *from, long b, const char *to, long flags);
int __real_openat(int dir_fd, const char *name, int flags, mode_t mode);
int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_unlinkat(int dir_fd, const char *name, int flags);
int __wrap_unlinkat(int dir_fd, const char *name, int flags);

static bool fails(long *left, int err)
{
	errno = err;
	if (*left > 0)
		--*left;
	else if (*left == 0)
		return true;
	return false;
}

int __wrap_fsync(int fd)
{
	return fails(&fsyncs_left, EIO) ? -1 : __real_fsync(fd);
}

int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode)
{
	return fails(&opens_left, EMFILE) ? -1 : __real_openat(dir_fd, name, flags, mode);
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	if (fd != STDERR_FILENO && fails(&writes_left, ENOSPC))
		return -1;
	return __real_write(fd, data, len);
}

long __wrap_syscall(long number, long a, const char *from, long b, const char *to, long flags)
{
	if (number == SYS_renameat2 && fails(&renames_left, EIO))
		return -1;
	if (number == SYS_renameat2 && no_flags) {
		errno = no_flags;
		return -1;
	}
	return __real_syscall(number, a, from, b, to, flags);
}

int __wrap_rename(const char *from, const char *to)
{
	if (dies && strcmp(from, tmp_path) == 0)
		_exit(0);
	if (no_rename && strcmp(from, path) == 0) {
		errno = no_rename;
		return -1;
	}
	return __real_rename(from, to);
}

int __wrap_unlinkat(int dir_fd, const char *name, int flags)
{
	if (no_unlink && strcmp(name, "memory") == 0) {
		errno = no_unlink;
		return -1;
	}
	return __real_unlinkat(dir_fd, name, flags);
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

static int shell(const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd %s && %s", root, command);
	return system(line);
}

static void expect(int ret, int err, const char *words)
{
	assert_int_equal(ret, -err);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
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
	fsyncs_left = opens_left = writes_left = renames_left = -1;
	no_flags = no_rename = no_unlink = 0;
	return shell("rm -rf ./*");
}

/* Fills PATH.tmp with snapshot number `number`. */
static int fill(struct snapshot_dir *dir, uint64_t number)
{
	const uint64_t magic = STATE_MAGIC;
	int ret = snapshot_dir_unfinished(dir);

	if (ret == 0)
		ret = snapshot_dir_files(dir, "{}", 2);
	if (ret == 0 &&
	    (write(dir->state_fd, &magic, 8) != 8 || write(dir->state_fd, &number, 8) != 8 ||
	     write(dir->memory_fd, &number, 8) != 8))
		ret = failf(EIO, "snap");
	return ret;
}

static int build(uint64_t number)
{
	struct snapshot_dir dir;
	int ret = snapshot_dir_open(&dir, path, true);

	if (ret < 0)
		return ret;
	ret = fill(&dir, number);
	if (ret == 0)
		return snapshot_dir_commit(&dir);
	snapshot_dir_abort(&dir);
	return ret;
}

/* The number of the snapshot PATH, which is whole. */
static uint64_t number_of(const char *dir)
{
	uint64_t in_state[2] = { 0 }, in_memory = 0;
	char name[256];
	int fd;

	snprintf(name, sizeof(name), "%s/state", dir);
	fd = open(name, O_RDONLY);
	assert_int_equal(read(fd, in_state, 16), 16);
	close(fd);
	snprintf(name, sizeof(name), "%s/memory", dir);
	fd = open(name, O_RDONLY);
	assert_int_equal(read(fd, &in_memory, 8), 8);
	close(fd);
	assert_true(in_state[1] == in_memory);
	return in_memory;
}

static void test_replace(void **state)
{
	unsigned before = open_files();
	uint64_t number = 0;
	char name[256];
	int fd;

	(void)state;
	assert_int_equal(build(1), 0);
	assert_int_equal(number_of(path), 1);
	snprintf(name, sizeof(name), "%s/memory", path);
	fd = open(name, O_RDONLY);
	assert_int_equal(shell("touch snap/working-set snap/template"), 0);
	assert_int_equal(build(2), 0);
	assert_int_equal(number_of(path), 2);
	assert_false(exists(tmp_path));
	assert_int_equal(shell("test \"$(ls snap)\" = \"$(printf 'config\\nmemory\\nstate')\""), 0);
	/* Who has the old one open keeps it. */
	assert_int_equal(read(fd, &number, 8), 8);
	assert_int_equal(number, 1);
	close(fd);
	assert_int_equal(open_files(), before);
}

/* Damaged, or of another version: building it again is the cure. */
static void test_damaged(void **state)
{
	(void)state;
	assert_int_equal(build(1), 0);
	assert_int_equal(shell("rm snap/config && truncate -s 8 snap/state && : >snap/unfinished"),
			 0);
	assert_int_equal(build(2), 0);
	assert_int_equal(number_of(path), 2);
}

static void test_snapshot_never_replaces(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(build(1), 0);
	expect(snapshot_dir_create(&dir, path, "{}", 2), EEXIST, "a snapshot never replaces");
	assert_int_equal(number_of(path), 1);
}

static void test_refused(void **state)
{
	static const struct {
		const char *make;
		const char *sentence;
	} cases[] = {
		{ "mkdir snap", "snap: exists already and is no snapshot" },
		{ "mkdir snap && echo letter >snap/state", "exists already and is no snapshot" },
		{ "mkdir -p snap/state", "exists already and is no snapshot" },
		{ "mkdir snap && mkfifo snap/state", "exists already and is no snapshot" },
		{ "mkdir snap && ln -s /dev/null snap/state", "already and is no snapshot" },
		{ "mkdir snap && touch snap/letter", "snap: holds 'letter'" },
		{ "touch snap", "snap: exists already and is no directory" },
		{ "ln -s . snap", "snap: exists already and is no directory" },
		{ "ln -s nothing snap", "snap: exists already and is no directory" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(shell(cases[i].make), 0);
		expect(build(1), EEXIST, cases[i].sentence);
		assert_false(exists(tmp_path));
		clear(NULL);
	}
	assert_int_equal(build(1), 0);
	assert_int_equal(shell("touch snap/letter"), 0);
	expect(build(2), EEXIST, "holds 'letter'");
	assert_int_equal(number_of(path), 1);
}

/* What PATH is can change between the claim and the end. */
static void test_changed_meanwhile(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	assert_int_equal(build(1), 0);
	assert_int_equal(snapshot_dir_open(&dir, path, true), 0);
	assert_int_equal(fill(&dir, 2), 0);
	assert_int_equal(shell("rm -r snap && mkdir snap && touch snap/letter"), 0);
	expect(snapshot_dir_commit(&dir), EEXIST, "holds 'letter'");
	assert_false(exists(tmp_path));
	assert_int_equal(shell("test -e snap/letter && rm -r snap"), 0);

	assert_int_equal(build(1), 0);
	assert_int_equal(snapshot_dir_open(&dir, path, true), 0);
	assert_int_equal(fill(&dir, 2), 0);
	assert_int_equal(shell("rm -r snap"), 0);
	assert_int_equal(snapshot_dir_commit(&dir), 0);
	assert_int_equal(number_of(path), 2);

	/* There was none, now there is one. */
	assert_int_equal(shell("mv snap away"), 0);
	assert_int_equal(snapshot_dir_open(&dir, path, true), 0);
	assert_int_equal(fill(&dir, 3), 0);
	assert_int_equal(shell("mv away snap"), 0);
	assert_int_equal(snapshot_dir_commit(&dir), 0);
	assert_int_equal(number_of(path), 3);
	assert_false(exists(tmp_path));
}

static void test_locks(void **state)
{
	struct snapshot_dir first, second;
	int fd;

	(void)state;
	assert_int_equal(build(1), 0);
	assert_int_equal(snapshot_dir_open(&first, path, true), 0);
	expect(snapshot_dir_open(&second, path, true), EBUSY, "another snapshot is being written");
	expect(snapshot_dir_sweep(path), EBUSY, "another snapshot is being written");
	/* rm that did not sweep: the name PATH.tmp is taken, PATH stays and is not marked. */
	expect(snapshot_dir_delete(path), EEXIST, "cannot be renamed");
	assert_int_equal(shell("test ! -e snap/unfinished"), 0);
	assert_int_equal(fill(&first, 2), 0);

	fd = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	expect(snapshot_dir_commit(&first), EBUSY, "it is being removed");
	expect(snapshot_dir_delete(path), EBUSY, "it is being removed");
	close(fd);
	assert_int_equal(number_of(path), 1);
	assert_false(exists(tmp_path));
}

/* FUSE, NFS, 9p: every way through the module without a flag of renameat2(2). */
static void test_no_flags(void **state)
{
	struct snapshot_dir dir;

	(void)state;
	no_flags = EINVAL;
	assert_int_equal(build(1), 0);
	assert_int_equal(build(2), 0);
	assert_int_equal(number_of(path), 2);
	assert_int_equal(shell("test \"$(ls)\" = snap && test ! -e snap/unfinished"), 0);
	/* What machines keep of old ones is passed by, and removed when it can be. */
	assert_int_equal(shell("mkdir snap.old1.tmp && touch snap.old1.tmp/unfinished "
			       "snap.old1.tmp/.nfs01 snap/.fuse_hidden02"),
			 0);
	assert_int_equal(build(3), 0);
	assert_int_equal(number_of(path), 3);
	assert_int_equal(
		shell("test \"$(ls -A snap.old1.tmp snap.old2.tmp | grep .)\" = \"$(printf "
		      "'snap.old1.tmp:\\n.nfs01\\nsnap.old2.tmp:\\n.fuse_hidden02')\""),
		0);
	assert_int_equal(shell("rm snap.old*/.[nf]*"), 0);
	assert_int_equal(build(4), 0);
	assert_false(shell("ls -d snap.old1.tmp 2>/dev/null") == 0);
	/* One made meanwhile is never replaced, unless it is nothing. */
	assert_int_equal(snapshot_dir_delete(path), 0);
	assert_false(exists(path) || exists(tmp_path));
	assert_int_equal(snapshot_dir_open(&dir, path, false), 0);
	assert_int_equal(fill(&dir, 5), 0);
	assert_int_equal(shell("mkdir snap && touch snap/letter"), 0);
	expect(snapshot_dir_commit(&dir), EEXIST, "made by another meanwhile");
	assert_int_equal(shell("test -e snap/letter && test ! -e snap.tmp"), 0);
}

/* What a removed left-over keeps is no reason not to begin: the directory is taken over. */
static void test_kept_left_over(void **state)
{
	(void)state;
	assert_int_equal(shell("mkdir snap.tmp && touch snap.tmp/.nfs01 snap.tmp/unfinished"), 0);
	assert_int_equal(snapshot_dir_sweep(path), 0);
	assert_int_equal(shell("test \"$(ls -A snap.tmp)\" = .nfs01"), 0);
	assert_int_equal(build(1), 0);
	assert_int_equal(number_of(path), 1);
	assert_false(exists(tmp_path));
	assert_int_equal(snapshot_dir_delete(path), 0);
	assert_int_equal(shell("test \"$(ls -A snap.tmp)\" = .nfs01"), 0);
}

/* The lower layer of an overlay: PATH cannot be renamed, only emptied. */
static void test_no_rename(void **state)
{
	(void)state;
	for (int flags = EXDEV;; flags = EINVAL) {
		no_flags = 0;
		assert_int_equal(build(1), 0);
		no_flags = flags;
		no_rename = EXDEV;
		assert_int_equal(build(2), 0);
		assert_int_equal(number_of(path), 2);
		assert_false(exists(tmp_path));
		assert_int_equal(snapshot_dir_delete(path), 0);
		assert_int_equal(shell("test -z \"$(ls -A)\""), 0);
		if (flags == EINVAL)
			break;
	}
}

/* A writer that dies between the two steps: what is left is the new one, and nobody sweeps it away. */
static void test_died_between(void **state)
{
	(void)state;
	for (unsigned lower = 0; lower < 2; lower++) {
		pid_t child;

		assert_int_equal(build(1), 0);
		child = fork();
		if (child == 0) {
			dies = true;
			no_flags = EINVAL;
			no_rename = lower ? EXDEV : 0;
			build(2);
			_exit(1);
		}
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_int_equal(number_of(tmp_path), 2);
		assert_int_equal(shell("test ! -e snap.tmp/unfinished"), 0);
		assert_int_equal(exists(path), lower);
		clear(NULL);
	}
}

/* Neither renamed nor emptied: the new one is kept, whole, and the sentence says where. */
static void test_torn(void **state)
{
	(void)state;
	assert_int_equal(build(1), 0);
	no_flags = EXDEV;
	no_rename = EXDEV;
	no_unlink = EACCES;
	expect(build(2), EACCES, "snap.tmp: remove the old one and rename it");
	no_unlink = 0;
	assert_int_equal(number_of(tmp_path), 2);
	assert_int_equal(shell("test ! -e snap.tmp/unfinished"), 0);
}

/* The Nth call of each kind fails: an error, the old one as it was, nothing leaked. */
static void test_failures(void **state)
{
	long *const kinds[] = { &opens_left, &writes_left, &fsyncs_left, &renames_left };
	unsigned before = open_files();

	(void)state;
	for (size_t kind = 0; kind < 4; kind++) {
		for (long n = 0;; n++) {
			int ret;

			assert_true(n < 60);
			clear(NULL);
			assert_int_equal(build(1), 0);
			*kinds[kind] = n;
			ret = build(2);
			*kinds[kind] = -1;
			assert_int_equal(open_files(), before);
			if (ret == 0)
				break;
			assert_non_null(strstr(error_text(), "snap"));
			/* Only the last fsync comes after the exchange. */
			if (number_of(path) == 2) {
				assert_true(kind == 2);
				assert_int_equal(shell("test -e snap.tmp/unfinished"), 0);
				assert_int_equal(snapshot_dir_sweep(path), 0);
			}
			assert_false(exists(tmp_path));
		}
		assert_int_equal(number_of(path), 2);
	}
}

/* Room for one file more each time: a second snapshot fails at each of its files and at the mark. */
static void test_disk_full(void **state)
{
	unsigned failed = 0;
	char options[64];
	int ret;

	(void)state;
	do {
		snprintf(options, sizeof(options), "size=64k,nr_inodes=%u", 6 + failed);
		if (geteuid() != 0 || mount("none", root, "tmpfs", 0, options) < 0) {
			print_message("needs root for a tiny tmpfs\n");
			skip();
		}
		assert_int_equal(build(1), 0);
		ret = build(2);
		if (ret < 0) {
			failed++;
			assert_non_null(strstr(error_text(), "No space left on device"));
			assert_int_equal(number_of(path), 1);
			assert_int_equal(shell("test ! -e snap/unfinished"), 0);
		}
		assert_false(exists(tmp_path));
		assert_true(failed < 20);
		assert_int_equal(umount(root), 0);
	} while (ret < 0);
	assert_true(failed >= 5);
}

/* Writers killed at random moments: PATH is always one of the two, and the next makes another. */
static void test_killed_writer(void **state)
{
	unsigned replaced = 0, left = 0, wait_us = 500;
	uint64_t last = 1;

	(void)state;
	srand(2);
	assert_int_equal(build(last), 0);
	for (uint64_t i = 2; i < 200; i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(build(i) < 0);
		usleep((useconds_t)rand() % wait_us);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_true(number_of(path) == last || number_of(path) == i);
		/* About as often too late as too early, on any disk. */
		if (number_of(path) == i)
			replaced++;
		else
			wait_us += wait_us / 8;
		if (number_of(path) == i && wait_us > 500)
			wait_us -= wait_us / 8;
		last = number_of(path);
		left += exists(tmp_path);
	}
	print_message("%u replaced, %u left something\n", replaced, left);
	assert_true(left > 0 && replaced > 0);
	assert_int_equal(build(1000), 0);
	assert_int_equal(number_of(path), 1000);
	assert_false(exists(tmp_path));
}

/* Killed between the exchange and the end of the removal. */
static void test_left_over(void **state)
{
	(void)state;
	assert_int_equal(build(1), 0);
	assert_int_equal(shell("cp -r snap snap.tmp && touch snap.tmp/unfinished "
			       "snap.tmp/working-set snap.tmp/template snap/unfinished"),
			 0);
	assert_int_equal(snapshot_dir_sweep(path), 0);
	assert_false(exists(tmp_path));
	assert_int_equal(number_of(path), 1);
	assert_int_equal(snapshot_dir_delete(path), 0);
	assert_false(exists(path) || exists(tmp_path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_replace, clear),
		cmocka_unit_test_teardown(test_damaged, clear),
		cmocka_unit_test_teardown(test_snapshot_never_replaces, clear),
		cmocka_unit_test_teardown(test_refused, clear),
		cmocka_unit_test_teardown(test_changed_meanwhile, clear),
		cmocka_unit_test_teardown(test_locks, clear),
		cmocka_unit_test_teardown(test_no_flags, clear),
		cmocka_unit_test_teardown(test_kept_left_over, clear),
		cmocka_unit_test_teardown(test_no_rename, clear),
		cmocka_unit_test_teardown(test_died_between, clear),
		cmocka_unit_test_teardown(test_torn, clear),
		cmocka_unit_test_teardown(test_failures, clear),
		cmocka_unit_test_teardown(test_disk_full, clear),
		cmocka_unit_test_teardown(test_killed_writer, clear),
		cmocka_unit_test_teardown(test_left_over, clear),
	};

	return cmocka_run_group_tests_name("snapshot_replace", tests, setup, teardown);
}
