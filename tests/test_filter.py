# SPDX-License-Identifier: Apache-2.0
"""The system call filters, run: every way through each program, against tests/golden/filters.txt.

A program is followed for one number at a time with arguments that are not known: each comparison of
one is gone both ways. So what is found holds for all arguments, not for some that were tried.
UPDATE_GOLDEN=1 writes the file anew; its diff is what more or less a guest that broke out may do.
"""

import fcntl
import os
import re
import signal
import subprocess
from collections import namedtuple

import pytest

from filter_rules import rules

X86_64, I386, X32 = 0xC000003E, 0x40000003, 0x40000000
ALLOW, KILL = 0x7FFF0000, 0x80000000
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMPS = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: a & k != 0,
}
EQUAL = 0x15
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

HEADERS = "linux/kvm.h linux/fs.h linux/vhost.h linux/if_tun.h linux/userfaultfd.h asm/ioctls.h".split()
# Later than the headers of the oldest system that this is built on.
NEWER = {"PAGEMAP_SCAN": 0xC0606610, "KVM_PRE_FAULT_MEMORY": 0xC040AED5}

ARGUMENTS = {
    ("fcntl", 1): "command", ("ioctl", 1): "request", ("mmap", 2): "prot", ("mmap", 3): "flags",
    ("mprotect", 2): "prot", ("sendto", 4): "address", ("tgkill", 2): "signal",
    ("tkill", 1): "signal",
}
BITS = {
    "prot": {4: "PROT_EXEC"},
    "flags": {1: "MAP_SHARED", 2: "MAP_PRIVATE", 0x20: "MAP_ANONYMOUS"},
}
INTRO = """\
# What the system call filter of each role lets through: roles, call, condition of its arguments.
# All else ends the process.
# Found by tests/test_filter.py, which follows the programs; UPDATE_GOLDEN=1 writes it anew.
"""

Insn = namedtuple("Insn", "code jt jf k")
Condition = namedtuple("Condition", "offset mask value equal")


def programs(text):
    """The programs in a header that filter_gen made, by role."""
    row = re.compile(r"\{ (\w+), (\w+), (\w+), (\w+) \}")
    return {
        role: [Insn(*(int(word, 0) for word in insn)) for insn in row.findall(body)]
        for role, body in re.findall(r"confine_filter_(\w+)\[\] = \{(.*?)\};", text, re.S)
    }


def ways(program, known):
    """(verdict, conditions met) of each way through; known: words of seccomp_data by their offset."""
    todo = [(0, None, None, 0, ())]  # where, the accumulator: value if known, word, mask; met
    while todo:
        at, value, offset, mask, path = todo.pop()
        insn = program[at]
        if insn.code == RETURN:
            yield insn.k, path
        elif insn.code == LOAD:
            todo.append((at + 1, known.get(insn.k), insn.k, 0xFFFFFFFF, path))
        elif insn.code == AND:
            assert offset >= FIRST_ARGUMENT, "bits of the number or the architecture"
            mask &= insn.k
            value = 0 if mask == 0 else None if value is None else value & insn.k
            todo.append((at + 1, value, offset, mask, path))
        else:
            outcomes = (JUMPS[insn.code](value, insn.k),) if value is not None else (True, False)
            if value is None:
                assert insn.code == EQUAL and offset >= FIRST_ARGUMENT, f"comparison {insn}"
                seen = [c for c in path if c[:2] == (offset, mask)]
                equal = [c.value for c in seen if c.equal]
                if equal or insn.k in (c.value for c in seen):
                    outcomes = (insn.k in equal,)
            for outcome in outcomes:
                passed = path
                if value is None and len(outcomes) == 2:
                    passed += (Condition(offset, mask, insn.k, outcome),)
                jump = insn.jt if outcome else insn.jf
                todo.append((at + 1 + jump, value, offset, mask, passed))


def allowed(program, number, arch=X86_64):
    """What must be met for a call to be let through: a tuple of conditions, or several."""
    found = []
    for verdict, path in ways(program, {NUMBER: number, ARCH: arch}):
        assert verdict in (ALLOW, KILL)
        if verdict == ALLOW:
            positive = {c[:2] for c in path if c.equal}
            found.append(tuple(c for c in path if c.equal or c[:2] not in positive))
    return found


def lets(program, number, *args):
    """Whether a call with these arguments is let through."""
    known = {NUMBER: number, ARCH: X86_64}
    for i in range(6):
        arg = args[i] if i < len(args) else 0
        known[FIRST_ARGUMENT + 8 * i] = arg & 0xFFFFFFFF
        known[FIRST_ARGUMENT + 8 * i + 4] = arg >> 32
    ((verdict, _),) = ways(program, known)
    return verdict == ALLOW


def numbers(program):
    """Every number up to 1023, and all beyond at which a comparison could turn out otherwise."""
    turns = {insn.k + step for insn in program if insn.code in JUMPS for step in (-1, 0, 1)}
    return sorted(set(range(1024)) | {n for n in turns if 0 <= n < 1 << 32})


# --- names


def preprocess(*headers):
    text = "".join(f"#include <{header}>\n" for header in headers)
    return subprocess.run(["gcc", "-E", "-dM", "-"], input=text, capture_output=True, text=True,
                          check=True).stdout


@pytest.fixture(scope="module", name="calls")
def call_names():
    """Numbers of system calls by their names."""
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", preprocess("asm/unistd.h"), re.M)
    return {name: int(number) for name, number in found}


@pytest.fixture(scope="module", name="requests")
def request_names(tmp_path_factory):
    """Numbers of ioctl requests by their names: those of the headers that can be worked out."""
    source = tmp_path_factory.mktemp("requests") / "requests.c"
    head = "".join(f"#include <{header}>\n" for header in [*HEADERS, "stdio.h", "sys/ioctl.h"])
    names = re.findall(r"^#define ((?!_)\w+) +(?:_IO[WR]*\(|0x54)", preprocess(*HEADERS), re.M)

    def write():
        source.write_text(head + "int main(void)\n{\n" + "".join(
            f'printf("{name} %u\\n", (unsigned)({name}));\n' for name in names) + "}\n")

    words = ["gcc", "-w", "-o", source.with_suffix(""), source]
    write()
    # Those of other architectures are sizes of structures that this one has not.
    failed = subprocess.run(words, capture_output=True, text=True, check=False).stderr
    lines = source.read_text().splitlines()
    for line in {int(n) for n in re.findall(r"requests.c:(\d+):\d+: error", failed)}:
        names.remove(re.search(r'"(\w+) ', lines[line - 1]).group(1))
    write()
    subprocess.run(words, check=True)
    out = subprocess.run([source.with_suffix("")], capture_output=True, text=True, check=True).stdout
    return NEWER | {name: int(number) for name, number in map(str.split, out.splitlines())}


# --- as text


def number_text(name, value, requests):
    if name == "request":
        fit = sorted(word for word, number in requests.items() if number == value)
        return " or ".join(fit) or hex(value)
    if name == "signal":
        return signal.Signals(value).name
    if name == "command":
        return next(word for word in dir(fcntl)
                    if re.match("F_[GS]ET", word) and getattr(fcntl, word) == value)
    return " | ".join(word for bit, word in BITS.get(name, {}).items() if value & bit) or hex(value)


def condition_text(call, condition, requests):
    argument, half = divmod(condition.offset - FIRST_ARGUMENT, 8)
    name = ARGUMENTS.get((call, argument), f"argument {argument}")
    left = f"{name}, high half" if half else name
    if name in BITS:
        left += f" & ({number_text(name, condition.mask, requests)})"
    elif condition.mask != 0xFFFFFFFF:
        left += f" & {condition.mask:#x}"
    value = number_text(name, condition.value, requests) if condition.value else "0"
    return f"{left} {'==' if condition.equal else '!='} {value}"


def rows(program, calls, requests):
    """(call, conditions) of all that a program lets through."""
    names = {number: name for name, number in calls.items()}
    found = set()
    for number in numbers(program):
        call = names.get(number, hex(number))
        for conditions in allowed(program, number):
            found.add((call, "; ".join(condition_text(call, c, requests) for c in conditions)))
    return found


def table(filters, calls, requests):
    """The golden file."""
    found = {role: rows(program, calls, requests) for role, program in filters.items()}
    every = sorted(set().union(*found.values()))
    return INTRO + "".join(
        " ".join(f"{word:<{width}}" for word, width in [
            *((role if row in found[role] else "-", len(role)) for role in filters), (row[0], 16),
            (row[1], 0)]).rstrip() + "\n"
        for row in every)


def words_of(devices_list):
    """The devices of this build."""
    return devices_list.read_text().split(" of ")[0].split()


@pytest.fixture(name="filters")
def built_filters(root, virga):
    return programs((root / "build/filter.h").read_text())


@pytest.fixture(name="generate")
def filter_of(root, virga):
    """The programs for a device set."""

    def run(*devices):
        words = [root / "build/filter_gen", *devices]
        return programs(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    return run


# --- the tests


def test_what_is_let_through_is_what_was_agreed(root, filters, calls, requests):
    golden = root / "tests/golden/filters.txt"
    text = table(filters, calls, requests)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    lines, agreed = text.splitlines(), golden.read_text().splitlines()
    more, less = set(lines) - set(agreed), set(agreed) - set(lines)
    assert not more and not less, (
        "the filters are not those of tests/golden/filters.txt; if that is meant, run again with "
        f"UPDATE_GOLDEN=1 and read the diff; now:{chr(10)}{chr(10).join(sorted(more))}{chr(10)}"
        f"agreed:{chr(10)}{chr(10).join(sorted(less))}")
    assert lines == agreed


def test_every_rule_has_a_test_that_needs_it(root, virga):
    devices = (root / f"devices/{name}.c" for name in words_of(root / "build/devices.list"))
    listed = subprocess.run([root / "build/filter_gen", "--list", *devices], capture_output=True,
                            text=True, check=True).stdout
    assert {tuple(line.split("\t")[:2]) for line in listed.splitlines()} == set(rules()), (
        "name in tests/filter_rules.py which test needs the rule")
    for file, name in (test.split("::") for test in rules().values()):
        path = root / "tests" / (file if file.endswith(".py") else f"{file}.c")
        assert re.search(rf"\b{name.split('[')[0]}\(", path.read_text()), f"{file}: no {name}"


def test_no_call_of_another_entry_is_let_through(filters):
    for program in filters.values():
        for arch in {I386, 0, *(insn.k + step for insn in program for step in (-1, 1))} - {X86_64}:
            assert all(verdict == KILL for verdict, _ in ways(program, {ARCH: arch})), hex(arch)
        for number in (X32 | n for n in [*range(1024), 0x3FFFFFFF, 0xBFFFFFFF]):
            assert allowed(program, number) == [], hex(number)


def test_requests_are_those_agreed_however_extended(root, filters, calls, requests):
    """Each request of the headers, with the upper half as each C library leaves it and otherwise."""
    agreed = {role: set() for role in filters}
    for line in (root / "tests/golden/filters.txt").read_text().splitlines():
        if match := re.match(r"(.*) ioctl +request == (.*)", line):
            for role in match.group(1).replace("-", "").split():
                agreed[role].update(match.group(2).split(" or "))
    assert len(requests) > 150 and "KVM_CREATE_VCPU" in requests
    for role, program in filters.items():
        for high in (0, 0xFFFFFFFF, 0x12345678):
            found = {name for name, request in requests.items()
                     if lets(program, calls["ioctl"], 5, high << 32 | request, 7)}
            assert found == agreed[role]


@pytest.mark.parametrize("call", ["keyctl", "perf_event_open", "rename", "setsockopt", "openat"])
def test_a_call_more_is_seen(root, filters, generate, calls, requests, tmp_path, call):
    device = tmp_path / "device.c"
    device.write_text(f"/* syscalls: {call} - a test */\n")
    devices = (root / f"devices/{name}.c" for name in words_of(root / "build/devices.list"))
    wider = generate(*devices, device)
    for role, program in filters.items():
        more = rows(wider[role], calls, requests) - rows(program, calls, requests)
        assert more == {(call, "")}


@pytest.mark.parametrize(
    "was, becomes, row",
    [
        (lambda insn: insn.k == 0xAE80, lambda insn: insn._replace(k=0xAE41),
         ("ioctl", "request == KVM_CREATE_VCPU")),
        (lambda insn: insn.code == AND and insn.k == 4, lambda insn: insn._replace(k=2),
         ("mprotect", "prot & (0x2) == 0")),
        (lambda insn: insn.code == RETURN and insn.k == KILL, lambda insn: insn._replace(k=ALLOW),
         ("keyctl", "")),
    ],
    ids=["request", "mask", "verdict"],
)
def test_an_instruction_that_differs_is_seen(filters, calls, requests, was, becomes, row):
    for program in filters.values():
        assert row not in rows(program, calls, requests)
        mutant = [becomes(insn) if was(insn) else insn for insn in program]
        assert row in rows(mutant, calls, requests)


def test_smaller_device_set_has_a_narrower_filter(root, filters, generate, calls, requests):
    small = generate(*(root / f"devices/{name}.c" for name in ("serial", "debug_exit", "power")))
    fewer = {}
    for role, program in filters.items():
        whole, part = rows(program, calls, requests), rows(small[role], calls, requests)
        assert part <= whole
        fewer[role] = {call for call, _ in whole - part}
    assert fewer == {
        "alone": {"getrandom"},  # virtio_rng
        "supervised": {"getrandom", "accept4", "recvfrom", "shutdown"},  # virtio_vsock
        "shell": set(),  # has a generation id to make
    }
