/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/sealed.c with a template of a real machine: the memfds cannot be changed by anybody, what is in
 * them is what was saved, damage is found before anything is sealed, and parts that are none are
 * refused.
 */
#include "boot/snapshot/sealed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "tests/unit/boot/snapshot/compare_snapshots.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/live_machine.h"
#include "tests/unit/seed.h"

#define SEALS     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
#define PAGE      4096u
#define MUTATIONS 3000u

static char root[] = "/tmp/virga-sealed.XXXXXX";
static char path[64], memory_path[80];
static unsigned descriptors;
static struct seed seed;

static int setup(void **state)
{
	struct live *m;

	(void)state;
	vm_block_signals();
	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/t", root);
	snprintf(memory_path, sizeof(memory_path), "%s/memory", path);
	m = live_boot(NULL, "");
	if (!live_run_for(m, 20000))
		return -1;
	live_save(m, path);
	live_end(m);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static int count_before(void **state)
{
	(void)state;
	descriptors = descriptors_open();
	return 0;
}

static int count_after(void **state)
{
	(void)state;
	assert_int_equal(descriptors_open(), descriptors);
	return 0;
}

static void open_snapshot(struct snapshot *s)
{
	if (snapshot_open(s, path) < 0)
		fail_msg("%s", error_text());
}

static struct sealed make(void)
{
	struct sealed sealed;
	struct snapshot s;

	open_snapshot(&s);
	if (sealed_make(&sealed, &s) < 0)
		fail_msg("%s", error_text());
	snapshot_close(&s);
	return sealed;
}

/* --- Seals --- */

static void check_sealed(int fd)
{
	struct stat before, after;
	void *at;

	assert_int_equal(fcntl(fd, F_GET_SEALS), SEALS);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(pwrite(fd, "x", 1, before.st_size), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, before.st_size - 1), -1);
	assert_int_equal(ftruncate(fd, before.st_size + PAGE), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_equal(at, MAP_FAILED);
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED) { /* Linux before 6.7 refuses even that */
		assert_int_equal(mprotect(at, PAGE, PROT_READ | PROT_WRITE), -1);
		munmap(at, PAGE);
	}
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
}

static void test_seals(void **state)
{
	struct sealed sealed = make();
	uint8_t *at, byte;

	(void)state;
	check_sealed(sealed.memory_fd);
	check_sealed(sealed.parts_fd);
	/* A private mapping may be written and changes nothing. */
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, sealed.memory_fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	at[5] ^= 0xff;
	assert_int_equal(pread(sealed.memory_fd, &byte, 1, 5), 1);
	assert_int_equal(byte, at[5] ^ 0xff);
	munmap(at, PAGE);
	sealed_close(&sealed);
	assert_int_equal(sealed.memory_fd, -1);
	assert_int_equal(sealed.parts_fd, -1);
	sealed_close(&sealed);
}

/* --- What is in it --- */

static void test_content(void **state)
{
	struct sealed sealed = make();
	int file = open(memory_path, O_RDONLY | O_CLOEXEC);
	uint8_t *wanted = malloc(1 << 20), *got = malloc(1 << 20);
	struct stat st, own;

	(void)state;
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(fstat(sealed.memory_fd, &own), 0);
	assert_int_equal(own.st_size, st.st_size);
	assert_true(own.st_blocks < st.st_size / 512 / 2); /* holes stay holes */
	for (off_t at = 0; at < st.st_size; at += 1 << 20) {
		assert_int_equal(pread(file, wanted, 1 << 20, at), 1 << 20);
		assert_int_equal(pread(sealed.memory_fd, got, 1 << 20, at), 1 << 20);
		assert_memory_equal(got, wanted, 1 << 20);
	}
	free(wanted);
	free(got);
	close(file);
	sealed_close(&sealed);
}

/* It is the snapshot that it was made of, as often as it is opened, and whatever becomes of that. */
static void test_open(void **state)
{
	struct sealed sealed = make(), copy;
	char id[SNAPSHOT_VERSION_LEN + 1], wanted_id[SNAPSHOT_VERSION_LEN + 1];
	struct snapshot wanted, got;
	struct memory memory;

	(void)state;
	open_snapshot(&wanted);
	snapshot_version(&wanted, wanted_id);
	for (unsigned i = 0; i < 3; i++) {
		copy = (struct sealed){ .memory_fd = dup(sealed.memory_fd),
					.parts_fd = sealed.parts_fd };
		if (sealed_open(&copy, "name", &got) < 0)
			fail_msg("%s", error_text());
		assert_int_equal(copy.memory_fd, -1);
		compare_snapshots(&wanted, &got, 0);
		snapshot_version(&got, id);
		assert_string_equal(id, wanted_id);
		assert_int_equal(got.memory_size, wanted.memory_size);
		assert_int_equal(got.vcpu_count, wanted.vcpu_count);
		assert_int_equal(got.working_set.count, 0);
		assert_string_equal(got.path, "name");
		assert_int_equal(snapshot_verify(&got), 0);
		assert_int_equal(snapshot_map_memory(&got, &memory), 0);
		memset(memory.base, 0xa5, PAGE);
		memory_destroy(&memory);
		snapshot_close(&got);
	}
	snapshot_close(&wanted);
	sealed_close(&sealed);
}

/* A working set goes with it. */
static void test_working_set(void **state)
{
	struct working_set_run runs[] = { { .page = 3, .count = 2, .flags = WORKING_SET_WRITTEN },
					  { .page = 9, .count = 4, .rank = 2 } };
	struct working_set ws = { .runs = runs, .count = 2, .trials = 1 };
	struct sealed sealed;
	struct snapshot s, got;
	int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	open_snapshot(&s);
	assert_int_equal(ftruncate(fd, (off_t)s.memory_size), 0);
	working_set_count(&ws);
	assert_int_equal(sealed_adopt(&sealed, fd, &s.raw, &ws), 0);
	check_sealed(sealed.memory_fd);
	check_sealed(sealed.parts_fd);
	snapshot_close(&s);
	if (sealed_open(&sealed, "name", &got) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(got.working_set.count, 2);
	assert_memory_equal(got.working_set.runs, runs, sizeof(runs));
	assert_int_equal(got.working_set.written_pages, 2);
	assert_int_equal(got.working_set.read_pages, 4);
	snapshot_close(&got);
	sealed_close(&sealed);
}

/* --- Damage --- */

static void check_make_fails(int err, const char *words)
{
	struct sealed sealed = { .memory_fd = 77, .parts_fd = 78 };
	struct snapshot s;

	open_snapshot(&s);
	assert_int_equal(sealed_make(&sealed, &s), -err);
	if (!strstr(error_text(), words) || !strstr(error_text(), path))
		fail_msg("'%s' does not say '%s'", error_text(), words);
	assert_int_equal(sealed.memory_fd, -1);
	assert_int_equal(sealed.parts_fd, -1);
	snapshot_close(&s);
}

static void flip(int fd, off_t at)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* One bit anywhere: in a page that is used, in a hole, the last one. */
static void test_digest(void **state)
{
	int fd = open(memory_path, O_RDWR | O_CLOEXEC);
	off_t data = lseek(fd, 0, SEEK_DATA), hole = lseek(fd, data, SEEK_HOLE);
	off_t places[] = { data, data + 4095, hole + 100, 16 * (off_t)MIB - 1 };
	struct sealed sealed;

	(void)state;
	descriptors++;
	for (unsigned i = 0; i < 4; i++) {
		flip(fd, places[i]);
		check_make_fails(EBADMSG,
				 "is damaged: its content is not what was saved; build the "
				 "template again");
		flip(fd, places[i]);
	}
	sealed = make(); /* zeros that were written are as good as a hole */
	sealed_close(&sealed);
	descriptors--;
	close(fd);
}

static void test_no_sealing(void **state)
{
	const struct working_set none = { 0 };
	struct sealed sealed;
	struct snapshot s;
	void *at;
	int fd;

	(void)state;
	open_snapshot(&s);
	fd = memfd_create("memory", MFD_CLOEXEC);
	assert_int_equal(sealed_adopt(&sealed, fd, &s.raw, &none), -EPERM);
	assert_non_null(strstr(error_text(), "cannot seal a template in memory"));
	assert_int_equal(sealed.memory_fd, -1);
	/* Somebody could still write it. */
	fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_int_equal(sealed_adopt(&sealed, fd, &s.raw, &none), -EBUSY);
	assert_int_equal(sealed.memory_fd, -1);
	munmap(at, PAGE);
	snapshot_close(&s);
}

/* --- Parts that are none --- */

/* A memfd of these bytes in the place of parts: refused with that sentence, or taken (words NULL). */
static void check_parts(const void *data, size_t len, const char *words)
{
	struct sealed sealed = { .memory_fd = memfd_create("memory", MFD_CLOEXEC),
				 .parts_fd = memfd_create("parts", MFD_CLOEXEC) };
	struct snapshot got;
	int ret;

	assert_int_equal(ftruncate(sealed.memory_fd, 16 * (off_t)MIB), 0);
	assert_int_equal(write(sealed.parts_fd, data, len), len);
	ret = sealed_open(&sealed, "name", &got);
	assert_int_equal(sealed.memory_fd, -1);
	if (words) {
		assert_true(ret < 0);
		if (!strstr(error_text(), words) || !strstr(error_text(), "name"))
			fail_msg("'%s' does not say '%s'", error_text(), words);
	}
	if (ret == 0)
		snapshot_close(&got);
	else
		assert_int_equal(got.memory_fd, -1);
	sealed_close(&sealed);
}

/* All of a file; owned by the caller. */
static uint8_t *read_parts(size_t *len)
{
	struct sealed sealed = make();
	struct stat st;
	uint8_t *data;

	assert_int_equal(fstat(sealed.parts_fd, &st), 0);
	*len = (size_t)st.st_size;
	data = malloc(*len);
	assert_int_equal(pread(sealed.parts_fd, data, *len, 0), *len);
	sealed_close(&sealed);
	return data;
}

static void test_wrong_parts(void **state)
{
	static const char none[] = "its parts are none of a template";
	size_t len;
	uint8_t *parts = read_parts(&len);
	uint64_t head[3], wrong[3];

	(void)state;
	memcpy(head, parts, sizeof(head));
	check_parts(parts, len, NULL);
	check_parts("", 0, "its parts cannot be read from memory");
	check_parts(parts, 23, "its parts cannot be read from memory");
	check_parts(parts, len - 1, "its parts are shorter than they say");
	for (unsigned i = 0; i < 5; i++) {
		static const struct {
			unsigned place;
			uint64_t value;
		} changes[] = { { 0, 0 },
				{ 1, 7 },
				{ 1, STATE_SIZE_MAX + 1ull },
				{ 1, UINT64_MAX },
				{ 2, WORKING_SET_SIZE_MAX + 1ull } };

		memcpy(wrong, head, sizeof(head));
		wrong[changes[i].place] = changes[i].value;
		memcpy(parts, wrong, sizeof(wrong));
		check_parts(parts, len, none);
	}
	/* A working set that is not there, and a state that is shorter than it says. */
	wrong[2] = 100;
	wrong[1] = head[1];
	wrong[0] = head[0];
	memcpy(parts, wrong, sizeof(wrong));
	check_parts(parts, len, "its parts are shorter than they say");
	wrong[2] = 0;
	wrong[1] = 8;
	memcpy(parts, wrong, sizeof(wrong));
	check_parts(parts, len, "state");
	free(parts);
}

/* Any bit of the state: its checksums find it. */
static void test_mutated_parts(void **state)
{
	size_t len;
	uint8_t *parts = read_parts(&len);

	(void)state;
	for (unsigned n = 0; n < MUTATIONS; n++) {
		size_t at = 24 + seed_below(&seed, len - 24);
		uint8_t bit = (uint8_t)(1u << seed_below(&seed, 8));

		parts[at] ^= bit;
		check_parts(parts, len, "state");
		parts[at] ^= bit;
	}
	check_parts(parts, len, NULL);
	free(parts);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, count_before, count_after)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_seals),       TEST(test_content),       TEST(test_open),
		TEST(test_working_set), TEST(test_digest),        TEST(test_no_sealing),
		TEST(test_wrong_parts), TEST(test_mutated_parts),
	};

	seed = seed_begin(4040);
	return cmocka_run_group_tests_name("sealed", tests, setup, teardown);
}
