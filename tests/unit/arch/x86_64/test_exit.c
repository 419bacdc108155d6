/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a vCPU that cannot go on, on real KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/vm.h"

static struct vm vm;

static int setup(void **state)
{
	struct memory memory;

	(void)state;
	assert_int_equal(memory_create(&memory, 4u << 20), 0);
	assert_int_equal(vm_create(&vm, &memory, 1, true), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_destroy(&vm);
	return 0;
}

/* Handles a triple fault of vCPU 0; what is printed goes to text. */
static void triple_fault(char *text, size_t size)
{
	int saved = dup(STDERR_FILENO), fds[2];
	ssize_t n;

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	vm.vcpus[0].run->exit_reason = KVM_EXIT_SHUTDOWN;
	pthread_mutex_lock(&vm.lock);
	vcpu_exit(&vm.vcpus[0]);
	pthread_mutex_unlock(&vm.lock);
	dup2(saved, STDERR_FILENO);
	n = read(fds[0], text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	close(saved);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(vm.end.reason, VM_END_CRASH);
}

/* A new vCPU stands as INIT leaves one, which is how kvm_amd hands it back. */
static void test_registers_that_are_lost(void **state)
{
	char text[2048];

	(void)state;
	triple_fault(text, sizeof(text));
	assert_string_equal(text, "");
	assert_string_equal(vm.end.text, "triple fault on vCPU 0 (KVM has reset the CPU: its "
					 "registers at the fault are lost)");
}

static void test_registers_at_the_fault(void **state)
{
	struct kvm_regs regs = { .rip = 0x123456, .rsp = 0x7890ab, .rflags = 2 };
	char text[2048];

	(void)state;
	assert_int_equal(ioctl(vm.vcpus[0].fd, KVM_SET_REGS, &regs), 0);
	triple_fault(text, sizeof(text));
	assert_non_null(strstr(text, "vCPU 0: rip 0000000000123456"));
	assert_non_null(strstr(text, "rsp 00000000007890ab"));
	assert_string_equal(vm.end.text, "triple fault on vCPU 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers_that_are_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registers_at_the_fault, setup, teardown),
	};

	return cmocka_run_group_tests_name("exit", tests, NULL, NULL);
}
