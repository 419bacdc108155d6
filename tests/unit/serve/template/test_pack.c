/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/template/pack.c, program.c and pack_file.c: a directory through tar and zstd and back, and
 * programs that are missing, fail, end too early or are killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "serve/template/pack.h"
#include "serve/template/pack_file.h"
#include "serve/template/program.h"
#include "tests/unit/serve/template/pack_state.h"

#define MEMORY_SIZE (4u << 20)

static char root[] = "/tmp/test_pack.XXXXXX";
static char old_path[4096];

static int shell(const char *command)
{
	char line[8192];

	snprintf(line, sizeof(line), "cd %s && PATH='%s' && %s", root, old_path, command);
	return system(line);
}

static const char *in_root(const char *name)
{
	static char full[2][256];
	static unsigned turn;

	turn ^= 1;
	snprintf(full[turn], sizeof(full[turn]), "%s/%s", root, name);
	return full[turn];
}

static int open_in_root(const char *name, int flags)
{
	int fd = open(in_root(name), flags | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void expect(int ret, int err, const char *words)
{
	assert_int_equal(ret, -err);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
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

/* root/from: what is packed. */
static int setup(void **state)
{
	struct blob file = pack_state(MEMORY_SIZE);
	int fd;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	snprintf(old_path, sizeof(old_path), "%s", getenv("PATH"));
	if (!mkdtemp(root) || mkdir(in_root("from"), 0700) < 0)
		return -1;
	fd = open_in_root("from/state", O_CREAT | O_WRONLY);
	assert_int_equal(write(fd, file.data, file.len), file.len);
	close(fd);
	blob_fini(&file);
	return shell("echo '{}' >from/config && echo set >from/working-set && "
		     "truncate -s 4M from/memory && "
		     "head -c 300000 /dev/urandom | dd of=from/memory bs=4k seek=7 conv=notrunc "
		     "status=none && "
		     "echo x | dd of=from/memory bs=4k seek=900 conv=notrunc status=none");
}

static int teardown(void **state)
{
	(void)state;
	return shell("rm -rf ../${PWD##*/}");
}

static int clear(void **state)
{
	(void)state;
	setenv("PATH", old_path, 1);
	return shell("rm -rf to bin *.zst *.tmp");
}

static int pack(const char *dir, const char *file)
{
	struct progress progress = { .talk = false };
	int dir_fd = open_in_root(dir, O_RDONLY | O_DIRECTORY);
	int fd = open_in_root(file, O_CREAT | O_TRUNC | O_WRONLY);
	int ret = pack_write(dir_fd, fd, "FILE", &progress);

	close(fd);
	close(dir_fd);
	return ret;
}

/* Into root/to, which is made. */
static int unpack(const char *file)
{
	struct progress progress = { .talk = false };
	int fd = open_in_root(file, O_RDONLY), dir_fd, ret;

	assert_int_equal(shell("rm -rf to && mkdir to"), 0);
	dir_fd = open_in_root("to", O_RDONLY | O_DIRECTORY);
	ret = pack_read(fd, dir_fd, "FILE", &progress);
	close(fd);
	close(dir_fd);
	return ret;
}

/* Puts a program of that name before the installed ones: a line of shell. */
static void fake(const char *name, const char *line)
{
	char command[512], path[4400];

	snprintf(command, sizeof(command),
		 "mkdir -p bin && printf '#!/bin/sh\\n%%s\\n' '%s' >bin/%s && chmod 755 bin/%s",
		 line, name, name);
	assert_int_equal(shell(command), 0);
	snprintf(path, sizeof(path), "%s/bin:%s", root, old_path);
	setenv("PATH", path, 1);
}

/* --- There and back --- */

static void test_round_trip(void **state)
{
	unsigned before = open_files();

	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	assert_int_equal(unpack("a.zst"), 0);
	assert_int_equal(shell("diff -r from to"), 0);
	/* Holes stay holes, modes are for the owner. */
	assert_int_equal(shell("test $(du -k to/memory | cut -f1) -lt 400"), 0);
	assert_int_equal(shell("test -z \"$(find to -type f ! -perm 600)\""), 0);
	assert_int_equal(open_files(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* The same files give the same bytes, whatever their times, modes and the user's environment. */
static void test_deterministic(void **state)
{
	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	assert_int_equal(shell("cp -r --sparse=always from copy && chmod 644 copy/* && "
			       "touch -d 2001-01-01 copy/config"),
			 0);
	setenv("TAR_OPTIONS", "--xattrs --format=posix", 1);
	setenv("ZSTD_CLEVEL", "1", 1);
	assert_int_equal(pack("copy", "b.zst"), 0);
	unsetenv("TAR_OPTIONS");
	unsetenv("ZSTD_CLEVEL");
	assert_int_equal(shell("cmp a.zst b.zst; status=$?; rm -r copy; exit $status"), 0);
}

/* Other files of a directory are not packed; one that is needed must be there. */
static void test_members(void **state)
{
	(void)state;
	assert_int_equal(shell("cp -r from copy && touch copy/unfinished copy/letter"), 0);
	assert_int_equal(pack("copy", "a.zst"), 0);
	assert_int_equal(unpack("a.zst"), 0);
	assert_int_equal(shell("diff -r from to && rm copy/memory"), 0);
	expect(pack("copy", "a.zst"), ENOENT, "FILE: memory cannot be opened: No such file");
	assert_int_equal(shell("cp from/memory copy && rm copy/config && mkdir copy/config"), 0);
	expect(pack("copy", "a.zst"), EINVAL, "FILE: config is no regular file");
	assert_int_equal(shell("rmdir copy/config && ln -s /dev/null copy/config"), 0);
	expect(pack("copy", "a.zst"), ELOOP, "FILE: config cannot be opened");
	shell("rm -r copy");
}

/* What is a hole is decided by content: filled, half filled, and memory of nothing else. */
static void test_holes(void **state)
{
	static const char *const cases[] = {
		"cp --sparse=never from/memory copy/memory",
		"cp --sparse=always from/memory copy/memory && "
		"dd if=/dev/zero of=copy/memory bs=4k seek=100 count=50 conv=notrunc status=none",
	};

	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(shell("rm -rf copy && cp -r from copy"), 0);
		assert_int_equal(shell(cases[i]), 0);
		assert_int_equal(pack("copy", "b.zst"), 0);
		assert_int_equal(shell("cmp a.zst b.zst"), 0);
	}
	/* Runs for several blocks of the map. */
	assert_int_equal(shell("for page in $(seq 0 2 400); do echo x | dd of=copy/memory bs=4k "
			       "seek=$page conv=notrunc status=none; done"),
			 0);
	assert_int_equal(pack("copy", "a.zst"), 0);
	assert_int_equal(unpack("a.zst"), 0);
	assert_int_equal(shell("diff -r copy to"), 0);
	assert_int_equal(shell("rm copy/memory && truncate -s 4M copy/memory"), 0);
	assert_int_equal(pack("copy", "a.zst"), 0);
	assert_int_equal(unpack("a.zst"), 0);
	assert_int_equal(shell("diff -r copy to && test $(du -k to/memory | cut -f1) -eq 0"), 0);
	/* GNU tar writes the same. */
	assert_int_equal(
		shell("cp --sparse=always from/memory copy && cd copy && "
		      "tar --create --file=../t.tmp --format=gnu --sparse --owner=0 --group=0 "
		      "--mtime=@0 --mode=0600 --numeric-owner config state working-set memory"),
		0);
	assert_int_equal(pack("copy", "a.zst"), 0);
	assert_int_equal(
		shell("zstd -qdc a.zst | cmp - t.tmp; status=$?; rm -r copy; exit $status"), 0);
}

static void test_cut_short(void **state)
{
	char command[64];

	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	for (unsigned len = 0; len < 300000; len += 1 + len) {
		snprintf(command, sizeof(command), "head -c %u a.zst >b.zst", len);
		assert_int_equal(shell(command), 0);
		expect(unpack("b.zst"), EIO, "; copy it again, or name what");
	}
	assert_int_equal(shell("zstd -qdc a.zst | head -c 200000 | zstd -q >b.zst"), 0);
	expect(unpack("b.zst"), EINVAL, "FILE: ends too early");
	assert_int_equal(shell("zstd -qdc a.zst | tar -tf - >/dev/null"), 0);
	/* What zstd decompresses too, and what it does not. */
	assert_int_equal(shell("head -c 100000 /dev/urandom >b.zst"), 0);
	expect(unpack("b.zst"), EIO, "FILE: zstd says '");
	assert_int_equal(shell("head -c 100000 /dev/zero | zstd -q >b.zst"), 0);
	expect(unpack("b.zst"), EINVAL, "FILE: has no 'memory' in it");
}

/* --- Programs --- */

static void test_missing(void **state)
{
	unsigned before = open_files();

	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	setenv("PATH", "/nonexistent", 1);
	expect(pack("from", "b.zst"), ENOENT, "zstd is not installed; install the package zstd");
	expect(unpack("a.zst"), ENOENT, "zstd is not installed; install the package zstd");
	assert_int_equal(shell("mkdir bin && ln -s $(command -v zstd) bin/zstd"), 0);
	setenv("PATH", in_root("bin"), 1);
	assert_int_equal(pack("from", "b.zst"), 0);
	expect(unpack("a.zst"), ENOENT, "tar is not installed; install the package tar");
	assert_int_equal(open_files(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_programs_that_fail(void **state)
{
	static const struct {
		const char *name;
		const char *line;
		const char *pack_says, *unpack_says;
	} cases[] = {
		{ "tar", "echo oh no >&2; exit 3", NULL, "tar says 'oh no'" },
		{ "tar", "exit 3", NULL, "tar ended with status 3" },
		{ "tar", "exit 0", NULL, "tar ended too early" },
		{ "tar", "kill -9 $$", NULL, "tar was ended by signal 9" },
		{ "tar", "cat >/dev/null; exit 4", NULL, "tar ended with status 4" },
		{ "zstd", "echo oh no >&2; exit 3", "zstd says 'oh no'", "zstd says 'oh no'" },
		{ "zstd", "exit 0", "zstd ended too early", "ends too early" },
		{ "zstd", "kill -9 $$", "zstd was ended by signal 9",
		  "zstd was ended by signal 9" },
		{ "zstd", "cat >/dev/null; exit 4", "zstd ended with status 4",
		  "zstd ended with status 4" },
		{ "zstd", "exec cat /dev/zero", NULL, "no 'memory' in it" },
	};
	unsigned before = open_files();

	(void)state;
	assert_int_equal(pack("from", "a.zst"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake(cases[i].name, cases[i].line);
		if (cases[i].pack_says) {
			assert_true(pack("from", "b.zst") < 0);
			if (!strstr(error_text(), cases[i].pack_says))
				fail_msg("%s, %s: '%s'", cases[i].name, cases[i].line,
					 error_text());
		}
		if (cases[i].unpack_says) {
			assert_true(unpack("a.zst") < 0);
			if (!strstr(error_text(), cases[i].unpack_says))
				fail_msg("%s, %s: '%s'", cases[i].name, cases[i].line,
					 error_text());
		}
		assert_int_equal(open_files(), before);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		shell("rm -r bin");
	}
}

/* A program sees nothing of this one but what it is given, and keeps the lock of its directory. */
static void test_program(void **state)
{
	const char *const argv[] = { "sh", "-c",
				     "env | cut -d= -f1 | sort; pwd; ls /proc/self/fd | wc -l; "
				     "kill -PIPE $$; sleep 1",
				     NULL };
	struct program p;
	char text[512] = "";
	int dir_fd = open_in_root("from", O_RDONLY | O_DIRECTORY), other_fd, pipe_fds[2];
	ssize_t len, all = 0;

	(void)state;
	/* What the caller of the tests has left open is no concern of ours. */
	for (int fd = 3; fd < 1024; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	assert_int_equal(flock(dir_fd, LOCK_EX), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	setenv("SECRET", "x", 1);
	assert_int_equal(program_start(&p, argv, STDIN_FILENO, pipe_fds[1], dir_fd), 0);
	unsetenv("SECRET");
	close(dir_fd);
	close(pipe_fds[1]);
	while ((len = read(pipe_fds[0], text + all, sizeof(text) - 1 - (size_t)all)) > 0)
		all += len;
	close(pipe_fds[0]);
	expect(program_end(&p), EIO, "sh was ended by signal 13");
	assert_int_equal(program_end(&p), 0);
	program_kill(&p);
	assert_non_null(strstr(text, "LC_ALL\nPATH\nPWD\n"));
	assert_null(strstr(text, "SECRET"));
	if (!strstr(text, in_root("from\n5\n"))) /* 0 to 3, and that of ls */
		fail_msg("%s", text);

	dir_fd = open_in_root("from", O_RDONLY | O_DIRECTORY);
	other_fd = open_in_root("from", O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(dir_fd, LOCK_EX), 0);
	assert_int_equal(
		program_start(&p, (const char *const[]){ "sleep", "100", NULL }, -1, -1, dir_fd),
		0);
	close(dir_fd);
	assert_int_equal(flock(other_fd, LOCK_EX | LOCK_NB), -1);
	program_kill(&p);
	assert_int_equal(flock(other_fd, LOCK_EX | LOCK_NB), 0);
	close(other_fd);
}

/* --- FILE and FILE.tmp --- */

static void test_file(void **state)
{
	unsigned before = open_files();
	struct pack_file file, other;
	char path[256];
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s", in_root("f.zst"));
	assert_int_equal(pack_file_create(&file, path), 0);
	assert_int_equal(write(file.fd, "text", 4), 4);
	assert_int_equal(access(path, F_OK), -1);
	expect(pack_file_create(&other, path), EBUSY, "another export is being written to it");
	assert_int_equal(pack_file_commit(&file), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(st.st_mode & 0777, 0600);
	expect(pack_file_create(&file, path), EEXIST, "f.zst: exists already");
	assert_int_equal(unlink(path), 0);

	assert_int_equal(pack_file_create(&file, path), 0);
	pack_file_abort(&file);
	assert_int_equal(shell("test ! -e f.zst && test ! -e f.zst.tmp"), 0);
	/* Made by another meanwhile: theirs stays, ours goes. */
	assert_int_equal(pack_file_create(&file, path), 0);
	assert_int_equal(shell("echo letter >f.zst"), 0);
	expect(pack_file_commit(&file), EEXIST, "cannot be renamed");
	assert_int_equal(shell("test ! -e f.zst.tmp && grep -q letter f.zst"), 0);
	assert_int_equal(open_files(), before);
}

static void test_file_left_over(void **state)
{
	static const char *const others[] = { "echo letter >f.zst.tmp", "mkdir f.zst.tmp",
					      "ln -s from/config f.zst.tmp", "mkfifo f.zst.tmp" };
	unsigned before = open_files();
	struct pack_file file;
	struct stat st;
	char path[256];

	(void)state;
	snprintf(path, sizeof(path), "%s", in_root("f.zst"));
	assert_int_equal(shell("head -c 100000 /dev/urandom | zstd -q >f.zst.tmp && "
			       "chmod 644 f.zst.tmp"),
			 0);
	assert_int_equal(pack_file_create(&file, path), 0);
	assert_int_equal(fstat(file.fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	pack_file_abort(&file);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(shell(others[i]), 0);
		assert_true(pack_file_create(&file, path) < 0);
		assert_non_null(strstr(error_text(), "f.zst.tmp: "));
		assert_int_equal(shell("test -e f.zst.tmp && grep -q '{}' from/config"), 0);
		assert_int_equal(shell("rm -r f.zst.tmp"), 0);
	}
	expect(pack_file_create(&file, ""), EINVAL, "is empty");
	expect(pack_file_create(&file, "x.tmp"), EINVAL, "ends in .tmp");
	expect(pack_file_create(&file, "/nonexistent/x"), ENOENT, "/nonexistent/x.tmp: cannot");
	expect(pack_file_create(&file, in_root("from")), EEXIST, "from: exists already");
	assert_int_equal(open_files(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_round_trip, clear),
		cmocka_unit_test_teardown(test_deterministic, clear),
		cmocka_unit_test_teardown(test_members, clear),
		cmocka_unit_test_teardown(test_holes, clear),
		cmocka_unit_test_teardown(test_cut_short, clear),
		cmocka_unit_test_teardown(test_missing, clear),
		cmocka_unit_test_teardown(test_programs_that_fail, clear),
		cmocka_unit_test_teardown(test_program, clear),
		cmocka_unit_test_teardown(test_file, clear),
		cmocka_unit_test_teardown(test_file_left_over, clear),
	};

	return cmocka_run_group_tests_name("pack", tests, setup, teardown);
}
