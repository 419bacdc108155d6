# SPDX-License-Identifier: Apache-2.0
"""
What a guest takes for the time, against the host's: after a restore, after resets, and when the
machine stood still meanwhile. A wall clock may be wrong by SLACK_NS; a timer is never early, nor
later than the request that waits for it took.
"""

import os
import re
import signal
import socket
import time

import pytest
from helpers import Running, guest, run, wait_for
from serve_host import Host
from templates import build

pytestmark = pytest.mark.system

SLACK_NS = 50_000_000
DRIFT = 0.0005  # by which the host's clock may run faster or slower than its TSC
TIMER_NS = 100_000_000  # of tests/guest/clock.c
STILL_S = 2  # make check-long: a minute


@pytest.fixture(scope="module", name="template")
def ring0_template(virga, tmp_path_factory):
    words = ["--kernel", guest("ring0"), "--cmdline", "pages=1"]
    return build(virga, tmp_path_factory.mktemp("time"), "time", *words)


class Window:
    """From before a question to after its answer, by the host's clocks."""

    def __init__(self):
        self.wall_ns, self.start_ns = time.time_ns(), time.monotonic_ns()

    def holds(self, wall_ns):
        """Fails unless the guest's wall clock lies in it."""
        late_ns = time.time_ns() - wall_ns
        early_ns = wall_ns - self.wall_ns
        assert early_ns >= -SLACK_NS and late_ns >= -SLACK_NS, (early_ns, late_ns)

    def allows(self, timer_ns, least_ns):
        """Fails unless so much time of the guest's TSC has passed in it, and so much at least."""
        most_ns = time.monotonic_ns() - self.start_ns
        assert least_ns * (1 - DRIFT) <= timer_ns <= most_ns * (1 + DRIFT)


def ticks_ns(report):
    values = {name: int(value, 16) for name, value in map(str.split, report.splitlines())}
    return values["timer-tsc"] * 1_000_000 // values["khz"]


def test_restore(virga, template):
    """The template stood on the disk for a while."""
    time.sleep(STILL_S)
    for _ in range(3):
        window = Window()
        done = run(virga, "invoke", template, "--data", "time")
        assert done.returncode == 0, done.stderr
        window.holds(int(done.stdout))
        window = Window()
        done = run(virga, "invoke", template, "--data", "timer 50")
        window.allows(ticks_ns(done.stdout), 50_000_000)


@pytest.mark.parametrize("policy", ["once", "reset", "keep"])
def test_requests(virga, template, policy):
    """Machines that wait for their request, that were reset, and whose process did not run."""
    function = {"template": str(template), "policy": policy, "concurrency": 1, "timeout": 300,
                "pool": {"min": 1, "max": 1}}
    with Host(virga, {"f": function}, {"bare": 0, "builtin": False, "shells": 1}) as host:
        for still_s in (0, STILL_S, 0):
            time.sleep(still_s)
            window = Window()
            window.holds(int(host.invoke(b"time", "f").body))
            window = Window()
            window.allows(ticks_ns(host.invoke(b"timer 50", "f").body.decode()), 50_000_000)
            assert policy == "keep" or host.invoke(b"set 1", "f").error is None
        # It is stopped within a request, as when the host sleeps.
        window = Window()
        call = host.call(b"timer 500", "f")
        host.running(1, "f")
        shell = host.pid("virga-shell")
        os.kill(shell, signal.SIGSTOP)
        time.sleep(STILL_S)
        os.kill(shell, signal.SIGCONT)
        window.allows(ticks_ns(call.answer(60).body.decode()), 500_000_000)
        window = Window()
        window.holds(int(host.invoke(b"time", "f").body))


class Clock(Running):
    """tests/guest/clock.c, and the lines it says."""

    def __init__(self, virga, *words):
        super().__init__(virga, *words, "--serial", "stdio", stdin=-1)

    def ask(self, question, word):
        """The number that it says behind a word, when it has been asked."""
        self.output = b""
        self.send(question)
        return self.heard(word)

    def heard(self, word):
        line = re.compile(rf"{word} (\d+)\n".encode())

        def found():
            self.output += self.process.stdout.read(65536) or b""
            return line.search(self.output)
        return int(wait_for(found, what=word).group(1))


def qmp(control, *commands):
    """Says them, each answered before the next."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as lines:
        wait_for(control.exists, what="a control socket")
        sock.settimeout(30)
        sock.connect(str(control))
        lines.readline()
        for command in ("qmp_capabilities", *commands):
            sock.sendall(b'{"execute": "%s"}' % command.encode())
            while b'"return"' not in (line := lines.readline()):
                assert b'"event"' in line, line


def test_stop(virga, tmp_path):
    """A machine that was stopped by QMP, with a timer that runs."""
    control = tmp_path / "control"
    words = ["run", "--kernel", guest("clock"), "--control", control]
    with Clock(virga, *words) as machine:
        machine.expect("ready")
        for _ in range(2):
            window = Window()
            window.holds(machine.ask(b"w", "wall"))
            window = Window()
            machine.output = b""
            machine.send(b"t")
            machine.expect("armed")
            qmp(control, "stop")
            time.sleep(STILL_S)
            qmp(control, "cont")
            window.allows(machine.heard("timer"), TIMER_NS)
        window = Window()
        window.holds(machine.ask(b"w", "wall"))
        machine.send(b"q")
        machine.expect("SUCCESS")


def test_timer_in_a_snapshot(virga, tmp_path):
    """
    A timer that runs goes on, and comes once. Whether the time between passes for the guest depends
    on whether its KVM moves the TSC.
    """
    control = tmp_path / "control"
    words = ["run", "--kernel", guest("clock"), "--control", control]
    with Clock(virga, *words) as machine:
        machine.expect("ready")

        def stopped_while_armed():
            """It is not, when this process was too slow."""
            machine.output = b""
            window = Window()
            machine.send(b"t")
            machine.expect("armed")
            qmp(control, "stop")
            machine.output += machine.process.stdout.read(65536) or b""
            if b"timer" not in machine.output:
                return window
            qmp(control, "cont")
            return None

        window = wait_for(stopped_while_armed, what="a machine that was stopped in 100 ms")
        done = run(virga, "snapshot", "--now", control, tmp_path / "snapshot")
        assert done.returncode == 0, done.stderr
    time.sleep(STILL_S)
    with Clock(virga, "restore", tmp_path / "snapshot") as machine:
        window.allows(machine.heard("timer"), TIMER_NS)
