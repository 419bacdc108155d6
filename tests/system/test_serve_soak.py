# SPDX-License-Identifier: Apache-2.0
"""
A function host under load for long, with faults at random: everything is answered as it should be,
and in the end nothing has leaked, not a byte and not a descriptor.

The many requests come from bench/load, which checks every answer; the faults from threads here.
"""

import http.client
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from conftest import CI
from helpers import ROOT, wait_for
from serve_host import FUNCTIONS, Host, read_file
from templates import build

sys.path.insert(0, str(ROOT / "bench"))
import measure  # pylint: disable=wrong-import-position

pytestmark = pytest.mark.system

REQUESTS = int(os.environ.get("VIRGA_SOAK", "100000" if CI else "20000"))
SEED = int(os.environ.get("VIRGA_SEED", "4"))
WARM_UP = max(REQUESTS // 4, 10000)  # until everything has happened at once that may
PAYLOAD_MAX = 6 << 20
LEAK_MAX = 64 << 10  # of both processes together: less than a byte for each request
ONCE = [("builtin", 3), ("small", 2)]  # functions and connections: a machine for each request
AGAIN = [("reset", 2), ("kept", 1), ("small", 1)]  # and machines that are used again, far faster
ROUNDS = [ONCE, AGAIN, ONCE, ONCE, ONCE]

# What is asked, of whom, and how it may end: an error's name, or an answer.
FAULTS = [
    ("builtin", b"fault", "Runtime.Crashed"),
    ("small", b"exit 1", "Runtime.ExitError"),
    ("reset", b"exit 1", "Runtime.ExitError"),
    ("kept", b"fault", "Runtime.Crashed"),
    ("builtin", b"garbage", "Runtime.BrokenChannel"),
    ("reset", b"close", "Runtime.BrokenChannel"),
    ("builtin", b"dirty x", "Function.Error"),
    ("kept", b"dirty x", "Function.Error"),
    ("short", b"hang", "Sandbox.Timedout"),
    ("short", b"mute", "Sandbox.Timedout"),
    ("short", b"late 60000000 x", "Sandbox.Timedout"),
    ("builtin", b"late 1000 x", None),
    ("reset", b"twice x", None),
    ("kept", b"flood 50", None),
    ("reset", b"dirty 500", None),
    ("builtin", b"big %d" % PAYLOAD_MAX, None),
    ("builtin", b"big %d" % (PAYLOAD_MAX + 1), "Function.ResponseSizeTooLarge"),
    ("json", b"{}", None),
    ("json", b"{", "InvalidRequestContentException"),
    ("nobody", b"", "ResourceNotFoundException"),
    ("builtin", bytes(PAYLOAD_MAX), None),
    ("builtin", bytes(PAYLOAD_MAX + 1), "RequestTooLargeException"),
]


def anonymous(pid):
    """Bytes of a process that are its own: heap, stack, data."""
    text = read_file(f"/proc/{pid}/smaps_rollup")
    return int(re.search(r"^Pss_Anon: +(\d+)", text, re.M)[1]) << 10


class Soak:
    """All that is sent, from its start to stop()."""

    def __init__(self, host):
        self.host, self.errors, self.kills, self.counts = host, [], 0, Counter()
        self.ending = threading.Event()
        self.random = random.Random(SEED)
        self.threads = [threading.Thread(target=self.repeat, args=(act, pause)) for act, pause in
                        ((self.fault, 0), (self.fault, 0), (self.hang_up, 0.02),
                         (self.break_http, 0.02), (self.kill_shell, 0.5), (self.look, 0.1))]
        for thread in self.threads:
            thread.start()

    def repeat(self, act, pause):
        chance = random.Random(self.random.random())
        try:
            while not self.ending.wait(pause * chance.random() * 2):
                act(chance)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(f"{act.__name__}: {error!r}")
            self.ending.set()

    def fault(self, chance):
        name, payload, error = chance.choice(FAULTS)
        answer = self.host.invoke(payload, name)
        if answer.error == error:
            self.counts[name] += answer.status not in (404, 413)
            return
        self.counts[name] += 1
        killed = answer.status == 500 and self.kills
        late = answer.status == 429 and name == "short"  # there was no machine in so short a time
        assert killed or late, (name, payload[:20], answer)

    def hang_up(self, chance):
        """After a request, before its answer; or in the middle of either."""
        data = bytes(chance.choice([0, 10, 100000]))
        head = (f"POST {FUNCTIONS}/short/invocations HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {len(data)}\r\n\r\n")
        text = head.encode() + data
        with self.host.connect() as connection:
            connection.connect()
            sent = chance.choice([1, len(head), len(text), len(text)])
            connection.sock.sendall(text[:sent])
            if sent == len(text) and chance.random() < 0.5:
                connection.sock.recv(chance.choice([1, 1000]))

    def break_http(self, chance):
        with self.host.connect() as connection:
            connection.connect()
            connection.sock.sendall(chance.choice([
                b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + 20000 * b"x",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"]))
            answer = http.client.HTTPResponse(connection.sock)
            answer.begin()
            assert answer.status in (400, 431), answer.status

    def kill_shell(self, chance):
        pids = self.host.pids("virga-shell")
        if pids:
            self.kills += 1
            try:
                os.kill(chance.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def look(self, chance):
        with self.host.connect() as connection:
            for path in ("/metrics", "/status", "/", "/healthz"):
                assert connection.ask("GET", path).status == 200
        del chance

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.errors, self.errors


def load(host, which, seconds):
    """(requests by function, answers that were not right by kind) of these loads at once."""
    loads = [(name, subprocess.Popen(
        [measure.load_tool(), "closed", "--to", host.address, "--path",
         f"{FUNCTIONS}/{name}/invocations", "--body", "echo number %n", "--expect", "number %n",
         "--seconds", str(seconds), "--connections", str(connections)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)) for name, connections in which]
    sent, wrong = Counter(), Counter()
    for name, process in loads:
        out = json.loads(process.communicate(timeout=60 + seconds)[0])
        sent[name] += out["requests"]
        wrong.update({kind: count for kind, count in out["errors"].items() if count})
    return sent, wrong


def soak(host, requests):
    """Sends at least so many; what was sent by function, and how many shells were killed."""
    storm, sent, wrong = Soak(host), Counter(), Counter()
    try:
        for which in itertools.cycle(ROUNDS):
            for total, more in zip((sent, wrong), load(host, which, 4 if requests > 20000 else 1)):
                total.update(more)
            if sum(sent.values()) >= requests or storm.ending.is_set():
                break
    finally:
        storm.stop()
    # An answer that is not right is one whose machine was killed: a status, never a wrong body.
    assert set(wrong) <= {"status"} and wrong["status"] <= storm.kills, (wrong, storm.kills)
    return sent + storm.counts


def used(host):
    """Bytes of front and spawner."""
    return {role: anonymous(host.pid(role)) for role in ("virga-front", "virga-spawner")}


def outcomes(host):
    """Requests by function, as the host has counted them."""
    return Counter({each["name"]: sum(each["outcomes"].values())
                    for each in host.status()["functions"]})


@pytest.mark.timeout(1200)
def test_soak(virga, tmp_path):
    template = str(build(virga, tmp_path, "echo number 1", name="small"))
    functions = {
        "builtin": {"pool": {"min": 8, "max": 8}, "timeout": 10},
        "small": {"template": template, "pool": {"min": 8, "max": 8}, "timeout": 10},
        "reset": {"template": template, "policy": "reset", "timeout": 10},
        "kept": {"template": template, "policy": "keep", "timeout": 10, "idle_timeout": 1},
        "short": {"template": template, "timeout": 0.2},
        "json": {"template": template, "json": True},
    }
    with Host(virga, functions, {"bare": 4}) as host:
        soak(host, WARM_UP)
        wait_for(lambda: not host.function("kept")["kept"])
        before, memory, counted, start = host.steady(), used(host), outcomes(host), time.monotonic()
        pids = {role: host.pid(role) for role in memory}
        sent = soak(host, REQUESTS - WARM_UP)
        seconds = time.monotonic() - start
        host.settled(before)
        after, counted = used(host), outcomes(host) - counted
        print(f"{dict(sent)} in {seconds:.0f} s; bytes {memory}, then {after}")
        assert pids == {role: host.pid(role) for role in pids}
        assert sum(after.values()) - sum(memory.values()) <= LEAK_MAX, (memory, after)
        del counted["short"]  # whose callers hung up at any time
        assert counted == {name: sent[name] for name in counted}
