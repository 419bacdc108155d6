/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine on real KVM: creation with the Nth system call made to fail, memory
 * bounds, buses, the end of a machine and its exit status.
 * wrap: ioctl mmap memfd_create ftruncate open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "arch/vm.h"
#include "serve/machine/process.h"

#define MIB (1ull << 20)

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_ftruncate(int fd, off_t len);
int __wrap_ftruncate(int fd, off_t len);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

/* Calls left until one fails with EMFILE; negative: none does. Tests run on one thread. */
static int calls_left = -1;

static int call_fails(void)
{
	if (calls_left < 0 || calls_left-- > 0)
		return 0;
	errno = EMFILE;
	return 1;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	return call_fails() ? -1 : __real_ioctl(fd, request, arg);
}

/* The next mapping of guest memory is put beside a multiple of MEMORY_ALIGNMENT. */
static bool misalign;

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	char *place;

	if (call_fails())
		return MAP_FAILED;
	if (!misalign || addr)
		return __real_mmap(addr, len, prot, flags, fd, offset);
	misalign = false;
	place = __real_mmap(NULL, len + 2 * MEMORY_ALIGNMENT, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(place, MAP_FAILED);
	munmap(place, len + 2 * MEMORY_ALIGNMENT);
	place += MEMORY_ALIGNMENT - (uintptr_t)place % MEMORY_ALIGNMENT + 4096;
	return __real_mmap(place, len, prot, flags | MAP_FIXED, fd, offset);
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
	return call_fails() ? -1 : __real_memfd_create(name, flags);
}

int __wrap_ftruncate(int fd, off_t len)
{
	return call_fails() ? -1 : __real_ftruncate(fd, len);
}

int __wrap_open(const char *path, int flags, ...)
{
	return call_fails() ? -1 : __real_open(path, flags);
}

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int machine_create(struct vm *vm, unsigned vcpus)
{
	struct memory memory;
	int ret = memory_create(&memory, 16 * MIB);

	return ret < 0 ? ret : vm_create(vm, &memory, vcpus, true);
}

/* Every call on the way fails once: an error with a sentence each time, and nothing is left open. */
static void test_create_fails_at_every_call(void **state)
{
	unsigned before = open_descriptors(), failures = 0;
	struct vm vm;
	int ret = -1;

	(void)state;
	for (int n = 0; ret < 0; n++) {
		assert_true(n < 200);
		calls_left = n;
		ret = machine_create(&vm, 2);
		calls_left = -1;
		if (ret == 0)
			break;
		failures++;
		assert_true(strlen(error_text()) > 10);
		assert_int_equal(open_descriptors(), before);
	}
	assert_true(failures >= 10);
	vm_destroy(&vm);
	assert_int_equal(open_descriptors(), before);
}

static void test_memory_bounds(void **state)
{
	struct memory m;
	uint32_t word = 0x12345678, got = 0;

	(void)state;
	assert_int_equal(memory_create(&m, LAYOUT_HOLE_START + 2 * MIB), 0);
	assert_int_equal(m.region_count, 2);
	assert_ptr_equal(memory_at(&m, 0, 1), m.base);
	assert_null(memory_at(&m, LAYOUT_HOLE_START - 2, 4));
	assert_null(memory_at(&m, LAYOUT_HOLE_START, 1));
	assert_null(memory_at(&m, LAYOUT_HOLE_END - 1, 2));
	assert_null(memory_at(&m, UINT64_MAX, 2));
	assert_null(memory_at(&m, 4096, UINT64_MAX));
	assert_null(memory_at(&m, LAYOUT_HOLE_END + 2 * MIB - 3, 4));
	assert_int_equal(memory_write(&m, LAYOUT_HOLE_END + 2 * MIB - 4, &word, 4), 0);
	assert_int_equal(memory_read(&m, LAYOUT_HOLE_END + 2 * MIB - 4, &got, 4), 0);
	assert_int_equal(got, word);
	/* Packed: the first byte above the hole follows the last below it. */
	assert_ptr_equal(memory_at(&m, LAYOUT_HOLE_END, 1), m.base + LAYOUT_HOLE_START);
	assert_int_equal(memory_read(&m, LAYOUT_HOLE_END + 2 * MIB - 3, &got, 4), -EFAULT);
	memory_destroy(&m);
}

/* Whether the kernel aligns the mapping or not. */
static void test_memory_alignment(void **state)
{
	struct memory m;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		misalign = i == 0;
		assert_int_equal(memory_create(&m, 16 * MIB), 0);
		assert_false(misalign);
		assert_int_equal((uintptr_t)m.base % MEMORY_ALIGNMENT, 0);
		assert_true((uint8_t *)m.place <= m.base &&
			    m.base + m.size <= (uint8_t *)m.place + m.place_len);
		m.base[0] = m.base[16 * MIB - 1] = 1;
		memory_destroy(&m);
	}
}

static void bus_note(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	uint64_t *last = opaque;

	*last = offset << 8 | len << 1 | write;
	if (!write)
		memset(data, 0x5a, len);
}

static void test_bus(void **state)
{
	struct bus bus = { 0 };
	uint64_t last = 0;
	uint32_t data = 0;

	(void)state;
	assert_int_equal(bus_claim(&bus, 0x100, 8, bus_note, &last, "one"), 0);
	assert_int_equal(bus_claim(&bus, 0x104, 8, bus_note, &last, "two"), -EEXIST);
	assert_non_null(strstr(error_text(), "two"));
	assert_true(bus_io(&bus, 0x104, &data, 4, false));
	assert_int_equal(data, 0x5a5a5a5a);
	assert_int_equal(last, 4u << 8 | 4 << 1);
	/* Across the end of the range: nobody's. */
	assert_false(bus_io(&bus, 0x106, &data, 4, false));
	assert_int_equal(data, 0xffffffff);
	assert_false(bus_io(&bus, 0xfff, &data, 1, true));
	assert_int_equal(bus.unclaimed, 2);
	for (unsigned i = 1; i < BUS_RANGES_MAX; i++)
		assert_int_equal(bus_claim(&bus, 0x1000u * i, 1, bus_note, &last, "more"), 0);
	assert_int_equal(bus_claim(&bus, 0xffff000, 1, bus_note, &last, "full"), -ENOSPC);
}

static void test_end_status(void **state)
{
	static const struct {
		enum vm_end_reason reason;
		int status;
	} table[] = {
		{ VM_END_NONE, 125 },    { VM_END_POWEROFF, 0 },     { VM_END_RESET, 0 },
		{ VM_END_QUIT, 0 },      { VM_END_SIGNAL, 0 },       { VM_END_ANSWER, 0 },
		{ VM_END_TIMEOUT, 124 }, { VM_END_ANSWER_ERROR, 1 }, { VM_END_DEBUG_EXIT, 42 },
		{ VM_END_HOST, 125 },    { VM_END_CRASH, 126 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct vm_end end = { .reason = table[i].reason, .code = 42 };

		assert_int_equal(machine_status(&end), table[i].status);
	}
}

static void test_first_end_wins(void **state)
{
	struct vm vm;

	(void)state;
	assert_int_equal(machine_create(&vm, 1), 0);
	pthread_mutex_lock(&vm.lock);
	vm_end(&vm, VM_END_DEBUG_EXIT, 7, "first %d", 1);
	vm_end(&vm, VM_END_CRASH, 0, "second");
	pthread_mutex_unlock(&vm.lock);
	assert_int_equal(machine_status(&vm.end), 7);
	assert_string_equal(vm.end.text, "first 1");
	assert_int_equal(vm_run(&vm), VM_END_DEBUG_EXIT);
	vm_destroy(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_fails_at_every_call),
		cmocka_unit_test(test_memory_bounds),
		cmocka_unit_test(test_memory_alignment),
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_end_status),
		cmocka_unit_test(test_first_end_wins),
	};

	return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}
