# SPDX-License-Identifier: Apache-2.0
"""What a confined process has open, role by role: what its guest could reach if it broke out.

Of each such process that is looked at, all threads have the filter, and none a capability.
"""

import collections
import contextlib
import os
import re
from pathlib import Path

import pytest

from helpers import Running, guest, wait_for
from serve_host import Host
from templates import SMALL, Kept, build, children, request_file

pytestmark = pytest.mark.system

MACHINE = ["/dev/kvm", "kvm-vm", "kvm-vcpu"]
BOOTED = [*MACHINE, "guest-memory"]
STARTED = [*MACHINE, "memory"]
LOOP = ["eventpoll", "eventfd", "socket"]  # the last is to the supervisor
SHELL = [*MACHINE, "template-memory", "socket", "pagemap"]


def confined(pid):
    """Whether a process is; if one of its threads is, all must be, and without capabilities.

    But for the one that KVM makes (6.13): it runs in the kernel only, and is older than the filter
    where a vCPU has been entered before, as in a shell.
    """
    with contextlib.suppress(OSError):
        threads = [dict(re.findall(r"^(\w+):\t(.*)$", (task / "status").read_text(), re.M))
                   for task in Path(f"/proc/{pid}/task").iterdir()]
        threads = [each for each in threads if not each["Name"].startswith("kvm-nx-lpage")]
        if all(each["Seccomp"] != "2" for each in threads):
            return False
        for each in threads:
            assert (each["Seccomp"], each["NoNewPrivs"]) == ("2", "1"), each
            capabilities = [each[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
            assert not any(int(word, 16) for word in capabilities), each
        return True
    return False


def descendants(pid):
    with contextlib.suppress(OSError):
        for child in children(pid):
            yield child
            yield from descendants(child)


def kind(pid, fd):
    """What it is; a file on disk by its name."""
    link = os.readlink(f"/proc/{pid}/fd/{fd}")
    link = re.sub(r" \(deleted\)$", "", link)
    for pattern in (r"anon_inode:\[?([a-z-]+)", r"/memfd:(.*)", r"(socket|pipe):", r"/proc/\d+/(.*)"):
        if match := re.match(pattern, link):
            return match.group(1)
    return link if link.startswith("/dev/") else os.path.basename(link)


def open_in(pid):
    """Kinds of all but 0, 1 and 2; what of a template can be written is said."""
    kinds = collections.Counter()
    for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
        if fd > 2:
            flags = re.search(r"flags:\s(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text())[1]
            written = int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
            name = kind(pid, fd)
            kinds[f"{name}, writable" if written and name == "memory" else name] += 1
    return kinds


@pytest.fixture(name="inherited", params=[(8, 9, 300), range(3, 301)], ids=["few", "many"])
def of_the_caller(request, tmp_path):
    """Arguments for a command whose caller has left descriptors open."""
    (tmp_path / "secret").write_text("secret")

    def started():
        file = os.open(tmp_path / "secret", os.O_RDWR)
        for number in request.param:
            os.dup2(file, number)
    return {"preexec_fn": started, "close_fds": False}


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("descriptors"))


def expect(root, kinds, count=1):
    """Waits for so many confined processes of a command that have what is in the list and no more."""
    found = []

    def there():
        found.clear()
        with contextlib.suppress(OSError):
            found.extend(open_in(pid) for pid in (root, *descendants(root)) if confined(pid))
        return found == [collections.Counter(kinds)] * count
    try:
        wait_for(there, what="the descriptors of each confined process")
    except AssertionError:
        assert found == [collections.Counter(kinds)] * count
        raise


COMMANDS = [
    ("run", ["--serial", "none"], BOOTED),
    ("run", ["--control", "control", "--serial", "none"], [*BOOTED, *LOOP]),
    ("run", ["--kernel", guest("serial_echo"), "--serial", "file:serial"], [*BOOTED, "serial"]),
    ("run", ["--cpus", "2", "--serial", "none"], [*BOOTED, "kvm-vcpu", "eventpoll", "eventfd", "eventfd"]),
    ("restore", [], STARTED),
    ("restore", ["--control", "control", "--vsock", "vsock"], [*STARTED, *LOOP, "socket", "pagemap"]),
]


@pytest.mark.parametrize("command, words, kinds", COMMANDS, ids=lambda each: " ".join(map(str, each))
                         if isinstance(each, list) else each)
def test_machine(virga, template, tmp_path, inherited, command, words, kinds):
    words = [command, *([template] if command == "restore" else []), *words]
    with Running(virga, *words, cwd=tmp_path, **inherited) as machine:
        expect(machine.process.pid, kinds)


@pytest.mark.parametrize("words, kinds", [
    ([], [*STARTED, "socket"]),  # it takes the answer
    (["--control", "control"], [*STARTED, *LOOP, "socket", "pagemap"])], ids=["alone", "control"])
def test_clones(virga, template, tmp_path, inherited, words, kinds):
    with Kept(virga, template, 3, "echo x", *words, cwd=tmp_path, **inherited) as clones:
        expect(clones.process.pid, kinds, 3)


def test_invoke(virga, template, inherited):
    with Running(virga, "invoke", template, "--data", "hang", **inherited) as machine:
        expect(machine.process.pid, STARTED)


def test_builder(virga, tmp_path, inherited):
    """Its machine, warming up, and a trial clone; neither has a file that is being written."""
    slow = request_file(tmp_path, "hang")
    words = ["template", "build", tmp_path / "t", *SMALL, "--warm-request", slow]
    with Running(virga, *words, "--warm", "1", **inherited) as builder:
        expect(builder.process.pid, [*BOOTED, *LOOP, "pipe"])  # its console
    with Running(virga, *words, **inherited) as builder:
        expect(builder.process.pid, [*STARTED, "socket"])


def test_shells(virga, tmp_path):
    """Armed, bare, running and after an answer."""
    open_two = f'exec 8<>{tmp_path}/secret 9<>{tmp_path}/secret; exec "$@"'
    functions = {"builtin": {"policy": "reset", "pool": {"min": 2, "max": 2}}}
    host = Host(virga, functions, command=("bash", "-c", open_two, "-"))
    with host:
        host.steady()
        host.echo()
        call = host.call("hang")
        host.running(1)
        shells = [open_in(pid) for pid in host.pids("virga-shell") if confined(pid)]
        assert len(shells) >= 3
        for kinds in shells:
            assert kinds.items() <= collections.Counter(SHELL).items(), kinds
        call.answer()
