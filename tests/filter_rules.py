# SPDX-License-Identifier: Apache-2.0
"""Which test needs which rule of the system call filters (seccomp/filter_gen.c): fails without it.

tests/test_filter.py sees that every rule is here, tests/long/test_filter_rules.py takes each out.
Best is a test of what the rule is for. What cannot be had here (another kernel or CPU, a clock that
the vDSO does not know), or not with a small guest (a heap of many kinds of blocks, connections closed
by halves), is a test that makes the call itself.
"""

NEEDED_BY = {
    "system/test_guests.py::test_success[interrupt]": {
        "every": "KVM_RUN KVM_SIGNAL_MSI KVM_SET_GSI_ROUTING poll",
    },
    "system/test_guests.py::test_serial_input[poll]": {"every": "read"},
    "system/test_guests.py::test_success[virtio_rng0]": {"every": "getrandom"},
    "system/test_guests.py::test_end[triple_fault]": {"every": "KVM_GET_REGS KVM_GET_SREGS"},
    "system/test_builtin.py::test_message_of_any_size[6291456]": {"every": "mremap"},
    "system/test_clone.py::test_long_answers_as_json": {"every": "memfd_create"},
    "system/test_clone.py::test_snapshot_of_a_running_clone_leaves_it_running": {
        "every": "close epoll_ctl epoll_pwait exit exit_group futex madvise munmap "
                 "rt_sigprocmask rt_sigtimedwait sendmsg tkill write "
                 "mmap:MAP_ANONYMOUS|MAP_PRIVATE",
        "supervised": "KVM_CHECK_EXTENSION KVM_GET_CLOCK KVM_GET_CPUID2 KVM_GET_DEBUGREGS "
                      "KVM_GET_DEVICE_ATTR KVM_GET_LAPIC KVM_GET_MP_STATE KVM_GET_MSRS "
                      "KVM_GET_MSR_INDEX_LIST KVM_GET_SREGS2 KVM_GET_VCPU_EVENTS KVM_GET_XCRS "
                      "KVM_GET_XSAVE KVM_KVMCLOCK_CTRL PAGEMAP_SCAN accept4 fstat ftruncate lseek "
                      "pread64 pwrite64 recvfrom recvmsg uname",
    },
    "system/test_output.py::test_time_out[invoke]": {"every": "setitimer"},
    "system/test_output.py::test_a_stopped_process_goes_on": {"every": "restart_syscall"},
    "unit/serve/machine/test_shell::test_bare_then_reset": {
        "every": "sched_yield",
        "shell": "KVM_CHECK_EXTENSION KVM_GET_MSRS KVM_GET_MSR_INDEX_LIST KVM_SET_CLOCK "
                 "KVM_SET_DEBUGREGS KVM_SET_DEVICE_ATTR KVM_SET_LAPIC KVM_SET_MP_STATE "
                 "KVM_SET_MSRS KVM_SET_SREGS2 KVM_SET_XCRS KVM_SET_XSAVE PAGEMAP_SCAN fstat "
                 "getrandom mmap:MAP_PRIVATE pread64 recvmsg",
    },
    "unit/serve/machine/test_shell::test_keep": {"shell": "KVM_KVMCLOCK_CTRL"},
    "unit/serve/machine/test_shell::test_remap": {"shell": "KVM_SET_USER_MEMORY_REGION"},
    "unit/seccomp/test_confine::test_lost_page": {"every": "rt_sigreturn"},
    "unit/seccomp/test_confine::test_needed_calls_work": {
        "every": "brk clock_gettime mprotect nanosleep",
        "supervised": "KVM_GET_XSAVE2 shutdown",
        "shell": "KVM_PRE_FAULT_MEMORY KVM_SET_REGS KVM_SET_TSC_KHZ KVM_SET_VCPU_EVENTS",
    },
}


def rules():
    """{(role, name): test} of all."""
    return {(role, name.replace(":", " ").replace("|", " | ")): test
            for test, roles in NEEDED_BY.items()
            for role, names in roles.items() for name in names.split()}
