# SPDX-License-Identifier: Apache-2.0
"""What breaks in a function host: the caller gets the right error in time, others are served, and
ten seconds later nothing is left over."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time

import pytest
from helpers import wait_for
from serve_host import FUNCTIONS, STEADY, Connection, Host, cpu_time
from templates import build, fuse, gone, inspect

pytestmark = pytest.mark.system

LOST = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("faults"), name="small")


@pytest.fixture(name="host")
def one_host(virga, template, tmp_path):
    """Its template is a copy that may be broken."""
    copy = tmp_path / "copy"
    shutil.copytree(template, copy)
    functions = {
        "builtin": {"timeout": 5, "policy": "once"},
        "f": {"template": str(copy), "timeout": 5},
        "one": {"template": str(copy), "timeout": 20, "concurrency": 1},
        "kept": {"template": str(copy), "policy": "keep", "idle_timeout": 0.3},
        "reset": {"template": str(copy), "policy": "reset"},
    }
    with Host(virga, functions) as host:
        host.template = copy
        yield host


ALL = ["builtin", "f", "one", "kept", "reset"]


def kill_all(pids, number=signal.SIGKILL):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def version(virga, template):
    return inspect(virga, template)["version"]


def all_served(host, times=5):
    for name in times * ALL:
        host.echo(name)


def busy_shell(host):
    """A shell that computes."""
    return wait_for(lambda: [pid for pid in host.pids("virga-shell") if cpu_time(pid) > 0.2])[0]


def host_error(answer, *words):
    assert (answer.status, answer.error) == (500, "ServiceException"), answer
    assert any(word in answer.json()["Message"] for word in words), answer


# --- Processes that are killed ---


def test_idle_shells(host):
    """Nobody notices."""
    before = host.steady()
    for _ in range(3):
        shells = host.pids("virga-shell")
        kill_all(shells)
        wait_for(lambda pids=shells: all(map(gone, pids)))
        all_served(host, 2)
    all_served(host)
    host.settled(before)


def test_busy_shell(host):
    before = host.steady()
    for name in ("builtin", "f", "kept", "reset"):
        call = host.call(b"spin 600000000", name)
        os.kill(busy_shell(host), signal.SIGKILL)
        host_error(call.answer(4), "ended without an answer", "killed by signal 9")
        all_served(host, 1)
    outcomes = {name: host.function(name)["outcomes"] for name in ALL}
    assert [outcomes[name]["host_error"] for name in ALL] == [1, 1, 0, 1, 1]
    host.settled(before)


def test_busy_shell_and_those_that_wait(host):
    """They are served by others."""
    before = host.steady()
    busy = host.call(b"spin 600000000", "one")
    shell = busy_shell(host)
    waiting = [host.call(b"echo %d" % i, "one") for i in range(5)]
    wait_for(lambda: host.function("one")["waiting"] == 5)
    os.kill(shell, signal.SIGKILL)
    host_error(busy.answer(), "ended without an answer", "killed by signal 9")
    assert [call.answer().body for call in waiting] == [b"%d" % i for i in range(5)]
    host.settled(before)


def test_spawner(host):
    """All machines go with it: who runs is told, who waits is served by new ones."""
    before = host.steady()
    for turn in range(3):
        running = [host.call(b"spin 600000000", name) for name in ("one", "f")]
        host.running(1, "one")
        host.running(1, "f")
        waiting = [host.call(b"echo w", "one") for _ in range(3)]
        wait_for(lambda: host.function("one")["waiting"] == 3)
        os.kill(host.pid("virga-spawner"), signal.SIGKILL)
        for call in running:
            host_error(call.answer(4), "spawner", "ended without an answer", "killed by signal 9")
        assert [call.answer(4).body for call in waiting] == 3 * [b"w"]
        all_served(host, 1)
        assert host.metrics()["virga_spawner_starts_total",] == turn + 2
    assert host.said().count("the spawner is gone") == 3
    host.settled(before)


def test_spawner_again_and_again(host):
    before = host.steady()
    for _ in range(10):
        for pid in host.pids("virga-spawner"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.03)
    # One that lived so short is not replaced at once, and a request is told so until then.
    for name in ALL:
        wait_for(lambda n=name: host.invoke(b"echo x", n).status == 200)
    all_served(host)
    host.settled(before)


def test_front(host):
    """Connections end with it; who comes afterwards, or waits to be accepted, is served."""
    before = host.steady()
    for turn in range(3):
        calls = [host.call(b"spin 600000000", name) for name in ("f", "one", "one")]
        host.running(1, "one")
        os.kill(host.pid("virga-front"), signal.SIGKILL)
        new = host.call(b"echo new")
        for call in calls:
            with pytest.raises(LOST):
                call.answer(4)
        assert new.answer().body == b"new"
        all_served(host, 1)
        assert host.said().count("the front was killed by signal 9 (Killed)") == turn + 1
    host.settled(before)
    assert host.said().count("serving on") == 2  # they are not told to people again


def test_front_that_cannot_live(host):
    def killed():
        kill_all(host.pids("virga-front"))
        return host.process.poll() is not None
    wait_for(killed, what="the end of the host")
    assert host.process.returncode == 1 and "again and again" in host.said()
    assert not list(host.runtime.iterdir())
    host.killed = True


def test_keeper(virga, host):
    """Everything goes with it, but for the socket file, which the next host takes over."""
    call = host.call(b"spin 600000000")
    host.running(1)
    host.kill()
    with pytest.raises(LOST):
        call.answer(5)
    wait_for(lambda: not host.pids(), 10, "the end of its processes")
    assert (host.runtime / "virga.sock").exists()
    with pytest.raises(ConnectionError):
        host.echo()
    following = Host(virga)
    following.runtime, following.user = host.runtime, host.user
    with following:
        assert following.addresses[1] == host.user
        with Connection(host.user) as connection:
            assert connection.invoke("builtin", b"echo x").body == b"x"


class Starting(Host):
    """One that is not waited for."""

    def has_begun(self):
        return True


def test_loader_at_the_start(virga):
    for _ in range(20):  # it serves if it had loaded before
        host = Starting(virga)

        def over(host=host):
            kill_all(host.pids("virga-loader"))
            return host.process.poll() is not None or "try:" in host.said()
        try:
            host.start()
            wait_for(over)
            status, said = host.process.poll(), host.said()
        finally:
            host.__exit__(True)
        if status is not None:
            break
    assert (status, said) == (
        1, "virga: serve: function builtin: the process that loads it ended\n")


def test_loader_later(host):
    """What was loaded before is served on."""
    before = host.steady()
    tag = host.function()["template"]["version"]
    for _ in range(5):
        said = host.said().count("keeps version")

        def killed():
            loaders = host.pids("virga-loader")
            kill_all(loaders)
            if not loaders:  # they may have ended before they were seen
                host.process.send_signal(signal.SIGHUP)
            return host.said().count("keeps version") > said
        wait_for(killed, what="the end of a loader")
        all_served(host, 1)
    assert host.function()["template"]["version"] == tag
    host.settled(before)


def test_loader_keeps_nothing(host):
    """A connection that the host closes is closed, whatever a loader does at the time."""
    before = host.steady()
    with host.connect() as connection:
        assert connection.invoke("builtin", b"echo x").body == b"x"
        host.process.send_signal(signal.SIGHUP)
        loaders = []

        def stopped():
            loaders[:] = host.pids("virga-loader")
            kill_all(loaders, signal.SIGSTOP)
            if not loaders:  # they may have ended before they were seen
                host.process.send_signal(signal.SIGHUP)
            return loaders
        wait_for(stopped, what="a loader")
        try:
            connection.request("POST", "/", b"", {"Connection": "close"})
            connection.sock.settimeout(10)
            data = b""
            while chunk := connection.sock.recv(65536):  # to its end, not to its length
                data += chunk
            assert data.startswith(b"HTTP/1.1 404")
        finally:
            kill_all(loaders, signal.SIGCONT)
    host.settled(before)


@contextlib.contextmanager
def slow_memory(virga, tmp_path):
    """A template whose `memory` lies on a disk that a process id answers for."""
    template = build(virga, tmp_path, name="t")
    with fuse(tmp_path) as disk:
        shutil.move(template / "memory", tmp_path / "source")
        (template / "memory").touch()
        subprocess.run(["mount", "--bind", disk / "memory", template / "memory"], check=True)
        words = ["pgrep", "-nf", str(tmp_path / "source")]
        pid = int(subprocess.run(words, check=True, capture_output=True).stdout)
        try:
            yield template, pid
        finally:
            os.kill(pid, signal.SIGCONT)
            subprocess.run(["umount", "-l", template / "memory"], check=True)


def test_serves_while_others_load(virga, tmp_path):
    """A disk that does not answer keeps its own functions from being served, and no others."""
    with slow_memory(virga, tmp_path) as (template, disk):
        os.kill(disk, signal.SIGSTOP)
        with Starting(virga, {"builtin": {}, "f": {"template": str(template)}}) as host:
            host.addresses = wait_for(host.said_addresses)
            host.echo()
            for method, path in (("POST", "/invocations"), ("GET", "")):
                with host.connect() as connection:
                    answer = connection.ask(method, f"{FUNCTIONS}/f{path}")
                assert (answer.status, answer.error) == (503, "ResourceNotReadyException")
                assert "is being loaded" in answer.json()["Message"]
            assert host.function("f")["loading"] and not host.function()["loading"]
            os.kill(disk, signal.SIGCONT)
            host.loaded()
            host.echo("f")
            # Another front waits for it a while, but not for ever.
            os.kill(disk, signal.SIGSTOP)
            os.kill(host.pid("virga-front"), signal.SIGKILL)
            host.echo()
            os.kill(disk, signal.SIGCONT)
            host.loaded()
            host.echo("f")


# --- Files of a template ---


def test_template_is_deleted(virga, host):
    """It is in memory, and stays so."""
    before = host.steady()
    shutil.rmtree(host.template)
    all_served(host)
    host.process.send_signal(signal.SIGHUP)
    wait_for(lambda: host.said().count("keeps version") == 4)
    all_served(host)
    # A request that comes before the front knows can reach a machine that ends with it.
    starts = host.metrics()["virga_spawner_starts_total",]
    os.kill(host.pid("virga-spawner"), signal.SIGKILL)
    wait_for(lambda: host.metrics()["virga_spawner_starts_total",] > starts)
    all_served(host)
    host.settled(before)
    # A new front has nothing to load; what it can, it serves.
    os.kill(host.pid("virga-front"), signal.SIGKILL)
    host.echo()
    host.loaded()
    answer = host.invoke(b"", "f")
    assert (answer.status, answer.error) == (404, "ResourceNotFoundException")
    assert "its template could not be loaded" in answer.json()["Message"]
    # And when it is there again, all is well without another word.
    build(virga, host.template.parent, name="copy")
    wait_for(lambda: host.invoke(b"echo x", "f").status == 200)
    all_served(host)
    host.settled(before)


@pytest.mark.parametrize("file", ["memory", "state", "working-set"])
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_template_is_damaged(host, file, damage):
    """In place, as nobody should: machines that run and are made have what was verified."""
    before = host.steady()
    path, size = host.template / file, (host.template / file).stat().st_size
    if damage == "truncated":
        os.truncate(path, size // 2)
    else:
        with open(path, "r+b") as out:
            out.seek(size // 2)
            out.write(os.urandom(4096 if file == "memory" else 16))
    all_served(host)
    host.process.send_signal(signal.SIGHUP)
    wait_for(lambda: host.said().count("keeps version") == 4)
    assert str(host.template) in host.said().rsplit("keeps version", 1)[1]
    all_served(host)
    host.settled(before)


def test_template_is_replaced(virga, host):
    before = host.steady()
    old = version(virga, host.template)
    assert host.echo("f").headers["X-Amz-Executed-Version"] == old
    slow = host.call(b"spin 1500000", "f")
    host.running(1, "f")
    build(virga, host.template.parent, name="copy")
    new = version(virga, host.template)
    assert new != old
    for name in ("f", "one", "kept", "reset"):
        wait_for(lambda n=name: host.echo(n).headers["X-Amz-Executed-Version"] == new)
    answer = slow.answer()
    assert (answer.status, answer.error) == (200, None)
    assert answer.headers["X-Amz-Executed-Version"] == old
    all_served(host)
    host.settled(before)


# --- Suspended ---


# A minute in CI; at a desk as long as it takes to be late.
@pytest.mark.parametrize("seconds", [60 if os.environ.get("CI") else 4])
def test_host_is_suspended(host, seconds):
    """All of it, for longer than its time-outs: who runs is told, who comes is served."""
    before = host.steady()
    hanging = [host.call(b"hang", name) for name in ("f", "kept", "reset")]
    for name in ("f", "kept", "reset"):
        host.running(1, name)
    waiting = [host.call(b"spin 3000000", "one")]
    host.running(1, "one")
    waiting += [host.call(b"spin 100000", "one") for _ in range(2)]
    wait_for(lambda: host.function("one")["waiting"] == 2, what="requests that wait")
    pids = host.pids()
    kill_all(pids, signal.SIGSTOP)
    try:
        late = host.call(b"echo late")
        time.sleep(seconds)
        assert late.is_alive() and all(call.is_alive() for call in hanging)
    finally:
        kill_all(pids, signal.SIGCONT)
    assert late.answer(5).body == b"late"
    for call in hanging:
        assert call.answer(6).error == "Sandbox.Timedout"
    for call in waiting:
        answer = call.answer(20)
        assert answer.error in (None, "Sandbox.Timedout", "TooManyRequestsException"), answer
    all_served(host)
    host.settled(before)


def test_shells_are_stopped(host):
    """To the host it is a machine that hangs."""
    before = host.steady()
    pids = host.pids("virga-shell")
    kill_all(pids, signal.SIGSTOP)
    calls = [host.call(b"echo x", "f") for _ in range(4)]
    kinds = [call.answer(8).error for call in calls]
    assert "Sandbox.Timedout" in kinds and set(kinds) <= {None, "Sandbox.Timedout"}
    kill_all([pid for pid in host.pids("virga-shell") if pid in pids], signal.SIGCONT)
    all_served(host)
    host.settled(before)


def test_spawner_is_stopped(host):
    """What is ready serves; what must be made is not, and its caller is told in time."""
    before = host.steady()
    spawner = host.pid("virga-spawner")
    os.kill(spawner, signal.SIGSTOP)
    try:
        calls = [host.call(b"echo x", "f") for _ in range(12)]
        answers = [call.answer(8) for call in calls]
    finally:
        os.kill(spawner, signal.SIGCONT)
    kinds = [answer.error for answer in answers]
    assert kinds.count(None) >= STEADY["min"], kinds
    assert set(kinds) <= {None, "TooManyRequestsException", "ServiceException"}, kinds
    assert kinds.count(None) < 12
    all_served(host)
    host.settled(before)
