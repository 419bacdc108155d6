# SPDX-License-Identifier: Apache-2.0
"""Policy reset with a guest in ring 0: what one request sets of its machine the next does not see."""

import time

import pytest
from helpers import guest, wait_for
from serve_host import Host
from templates import build

pytestmark = pytest.mark.system

TSC_JUMP = 1 << 45  # what `set` adds to the TSC
TSC = ["tsc", "tsc-msr"]

# What `set` must have changed, or the test shows nothing. There are KVMs that refuse other things.
SURE = {"memory", "kvm-pages", "mapped", "cr0", "cr2", "cr3", "cr4", "cr8", "db0", "db1", "db2",
        "db3", "db6", "db7", "efer", "gdt-limit", "idt-limit", "msr-00000174", "msr-00000175",
        "msr-00000176", "msr-00000277", "msr-000002ff", "msr-00000402", "msr-0000047f",
        "msr-c0000081", "msr-c0000082", "msr-c0000084", "msr-c0000100", "msr-c0000101",
        "msr-c0000102", "lapic-080", "lapic-0d0", "lapic-0e0", "lapic-0f0", "lapic-220",
        "lapic-300", "lapic-320", "lapic-350", "lapic-370", "lapic-3e0"}
TIMERS = {1: {"lapic-380", "lapic-230"}, 2: {"deadline"}}  # periodic; by the TSC


@pytest.fixture(scope="module", name="template")
def ring0_template(virga, tmp_path_factory):
    """The page that `set` maps anew is known to the CPU when the snapshot is taken."""
    words = ["--kernel", guest("ring0"), "--cmdline", "pages=1", "--warm", "1"]
    return build(virga, tmp_path_factory.mktemp("ring0"), "map", *words)


class OneShell(Host):
    """A host with one machine, which answers all requests to its function f."""

    def __init__(self, virga, template):
        function = {"template": str(template), "policy": "reset", "concurrency": 1,
                    "timeout": 60, "pool": {"min": 1, "max": 1}}
        super().__init__(virga, {"f": function}, {"bare": 0, "builtin": False, "shells": 1})
        self.resets = 0

    def ask(self, text):
        """What it answers, and how long it took in seconds; afterwards the machine waits again."""
        start = time.monotonic()
        answer = self.invoke(text, "f")
        elapsed_s = time.monotonic() - start
        assert answer.error is None, answer
        self.resets += 1
        wait_for(lambda: self.metrics()["virga_resets_total", "f"] == self.resets, what="a reset")
        return answer.body.decode(), elapsed_s

    def report(self, text):
        answer, elapsed_s = self.ask(text)
        return dict(line.split() for line in answer.splitlines()), elapsed_s

    def renewed(self):
        return self.metrics()["virga_resets_renewed_total", "f"]


def changed(before, after):
    """The report of `set` says nothing of NMIs: to ask would be to take them."""
    both = (before.keys() & after.keys()) - set(TSC)
    return {name for name in both if before[name] != after[name]}


@pytest.mark.parametrize("number", TIMERS)
def test_ring_0(virga, template, number):
    """Registers, timers, pending interrupts and NMIs, translations, memory."""
    with OneShell(virga, template) as host:
        host.steady()
        shell = host.pid("virga-shell")
        first, first_s = host.report(b"look")
        for _ in range(2):
            seen, _ = host.report(b"set %d" % number)
            assert SURE | TIMERS[number] <= changed(first, seen)
            assert seen["nmis-taken"] == "00000001"  # and another is pending, blocked by that
            again, again_s = host.report(b"look")
            assert not {name: (first[name], again[name]) for name in changed(first, again)}
            assert (again["nmi-came"], again["nmi-all"]) == ("00000001", "00000001")
            if int(seen["tsc-msr"], 16) - int(first["tsc-msr"], 16) >= TSC_JUMP:
                # A KVM that moves the TSC: each request finds the template's, and its own time.
                limit = max(first_s, again_s) * 1000 * int(first["khz"], 16)
                for name in TSC:
                    assert abs(int(again[name], 16) - int(first[name], 16)) <= limit
        assert host.pid("virga-shell") == shell
        assert host.renewed() == 5


def test_ring_3(virga, tmp_path):
    """Translations are renewed where a request has written a page table, and only there."""
    with OneShell(virga, build(virga, tmp_path, "echo x")) as host:
        for text, answer, renewed in ((b"echo x", "x", 0), (b"remap 0", "", 1), (b"echo x", "x", 1)):
            assert host.ask(text)[0] == answer
            assert host.renewed() == renewed
