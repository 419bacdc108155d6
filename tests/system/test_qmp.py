# SPDX-License-Identifier: Apache-2.0
"""The control socket as its users drive it: qemu.qmp, `virga snapshot`, and worse clients."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest
from qemu.qmp import EventListener, ExecuteError, QMPClient

from helpers import Running, guest, run, state, wait_for

pytestmark = pytest.mark.system

KILLED_WRITERS = 100


class Machine(Running):
    """A running machine with a control socket; by default the embedded guest, READY at once."""

    def __init__(self, virga, where, *args, **kwargs):
        self.control = Path(where) / "control"
        if "--serial" not in args:
            args = ("--serial", "none", *args)
        super().__init__(virga, "run", "--control", self.control, *args, **kwargs)

    def __enter__(self):
        wait_for(self.control.exists, what=f"the socket {self.control}")
        return self

    def vm_process(self):
        """The process id of the confined half."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def cpu_ticks(self):
        """What the supervisor has used, in hundredths of a second."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(stat[11]) + int(stat[12])

    def wait_ready(self):
        with Raw(self.control) as raw:
            wait_for(lambda: raw.execute("query-status")["ready"], what="READY")


class Raw:
    """A client of bare sockets, for what qemu.qmp would never do."""

    def __init__(self, path, negotiate=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))
        self.lines = self.sock.makefile("rb")
        self.events = []
        if negotiate:
            assert "QMP" in self.read()
            self.execute("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self.lines.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def read(self):
        line = self.lines.readline()
        return json.loads(line) if line else None

    def reply(self):
        while (message := self.read()) is not None and "event" in message:
            self.events.append(message["event"])
        return message

    def execute(self, command, **arguments):
        self.send(json.dumps({"execute": command, "arguments": arguments}).encode())
        reply = self.reply()
        assert "return" in reply, reply
        return reply["return"]


def answers(path):
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@contextlib.asynccontextmanager
async def qmp_client(machine, enable=None):
    """A client that is connected; enable: capabilities, which it negotiates by itself else."""
    client = QMPClient("test")
    client.negotiate = enable is None
    await client.connect(str(machine.control))
    try:
        if enable is not None:
            await execute(client, "qmp_capabilities", enable=enable)
        yield client
    finally:
        # A machine that has ended has hung up; saying so is no failure here.
        with contextlib.suppress(EOFError, ConnectionError):
            await client.disconnect()


async def execute(client, command, **arguments):
    return await asyncio.wait_for(client.execute(command, arguments), 20)


async def wait_ready(client):
    while not (await execute(client, "query-status"))["ready"]:
        await asyncio.sleep(0.002)


async def wait_migrate(client):
    while (status := await execute(client, "query-migrate"))["status"] == "active":
        await asyncio.sleep(0.001)
    return status


async def refused(client, command, *words, **arguments):
    """The command's error, whose sentence holds these words."""
    with pytest.raises(ExecuteError) as caught:
        await execute(client, command, **arguments)
    for word in words:
        assert word in str(caught.value)
    return caught.value.error_class


# --- qemu.qmp


def test_greeting_and_queries(virga, tmp_path):
    async def drive(machine):
        async with qmp_client(machine) as client:
            version = client.greeting.QMP.version
            assert re.fullmatch(r"virga \d+\.\d+\.\d+", version["package"])
            assert set(version["qemu"]) == {"major", "minor", "micro"}
            assert client.greeting.QMP.capabilities == ["virga-ready"]
            assert await execute(client, "query-version") == version
            assert await execute(client, "query-name") == {"name": "first"}
            await wait_ready(client)
            assert await execute(client, "query-status") == {
                "status": "running",
                "running": True,
                "singlestep": False,
                "ready": True,
            }
            (cpu,) = await execute(client, "query-cpus-fast")
            assert cpu["cpu-index"] == 0
            assert Path(f"/proc/{machine.vm_process()}/task/{cpu['thread-id']}").exists()
            names = {entry["name"] for entry in await execute(client, "query-commands")}
            for name in names - {"qmp_capabilities", "stop", "cont", "quit", "migrate",
                                 "system_powerdown"}:
                await execute(client, name)
            assert {"stop", "cont", "quit", "migrate", "query-migrate"} < names
            assert await refused(client, "qom-list", "qom-list", path="/") == "CommandNotFound"
            assert await refused(client, "stop", "now", now=True) == "GenericError"

    with Machine(virga, tmp_path, "--name", "first") as machine:
        asyncio.run(drive(machine))


def test_stop_cont_quit_and_events(virga, tmp_path):
    async def drive(machine):
        async with qmp_client(machine) as client:
            await wait_ready(client)
            with client.listener(("STOP", "RESUME", "SHUTDOWN")) as events:
                for _ in range(3):
                    await execute(client, "stop")
                    assert (await execute(client, "query-status"))["status"] == "paused"
                    await execute(client, "stop")
                    await execute(client, "cont")
                    assert (await execute(client, "query-status"))["running"] is True
                await execute(client, "quit")
                seen = [await asyncio.wait_for(events.get(), 20) for _ in range(7)]
            assert [event["event"] for event in seen] == ["STOP", "RESUME"] * 3 + ["SHUTDOWN"]
            assert seen[-1]["data"] == {"guest": False, "reason": "host-qmp-quit"}
            stamps = [event["timestamp"] for event in seen]
            assert abs(stamps[0]["seconds"] - time.time()) < 60
            order = [(stamp["seconds"], stamp["microseconds"]) for stamp in stamps]
            assert order == sorted(order)

    with Machine(virga, tmp_path) as machine:
        asyncio.run(drive(machine))
        assert machine.process.wait(20) == 0
        assert "quit" in machine.errors()
        assert not machine.control.exists()


def test_ready_event(virga, tmp_path):
    """A client that is there before the guest is ready hears of it; nobody misses it."""

    async def drive(machine):
        async with qmp_client(machine, enable=["virga-ready"]) as client:
            listener = EventListener("VIRGA_READY")
            client.register_listener(listener)
            if not (await execute(client, "query-status"))["ready"]:
                event = await asyncio.wait_for(listener.get(), 20)
                assert "data" not in event
            assert (await execute(client, "query-status"))["ready"] is True

    for i in range(20):
        where = tmp_path / str(i)
        where.mkdir()
        with Machine(virga, where) as machine:
            asyncio.run(drive(machine))
            assert machine.stop() == 0


def test_no_unknown_event(virga, tmp_path):
    """A client that enabled nothing gets QEMU's events only: Rust's qapi ends at any other."""
    slow = ["--memory", "1G", "--cmdline", "pages=100000"]  # READY comes while the client is there
    with Machine(virga, tmp_path, *slow) as machine, Raw(machine.control) as raw:
        wait_for(lambda: raw.execute("query-status")["ready"], what="READY")
        raw.execute("stop")
        raw.execute("cont")
        raw.execute("quit")
        assert raw.reply() is None
        assert raw.events == ["STOP", "RESUME", "SHUTDOWN"]


def test_what_govmm_needs(virga, tmp_path):
    """Kata Containers' QMP client: it refuses versions below 5.0, and detaches migrations."""
    with Machine(virga, tmp_path) as machine, Raw(machine.control, negotiate=False) as raw:
        version = raw.read()["QMP"]["version"]["qemu"]
        assert (version["major"], version["minor"]) >= (5, 0)
        raw.execute("qmp_capabilities")
        wait_for(lambda: raw.execute("query-status")["ready"], what="READY")
        (cpu,) = raw.execute("query-cpus-fast")
        assert {"cpu-index", "thread-id", "qom-path", "props", "target"} <= set(cpu)
        raw.execute("stop")
        raw.execute("migrate", uri=f"file:{tmp_path}/one", detach=True)
        wait_for(lambda: raw.execute("query-migrate")["status"] == "completed", what="a snapshot")
        raw.execute("cont")
        assert "system_powerdown" in {each["name"] for each in raw.execute("query-commands")}
        raw.execute("quit")
        assert raw.reply() is None
        assert raw.events == ["STOP", "RESUME", "SHUTDOWN"]


def test_power_button(virga, tmp_path):
    """It is refused while the guest does not listen, and works on a machine that is paused."""
    words = ["--kernel", guest("power_button"), "--serial", "stdio"]
    with Machine(virga, tmp_path, *words, stdin=subprocess.PIPE) as machine:
        machine.expect("deaf\n")
        with Raw(machine.control) as raw:
            raw.send(b'{"execute": "system_powerdown"}')
            error = raw.reply()["error"]
            assert error["class"] == "GenericError" and "power button" in error["desc"]
            assert not raw.events
            machine.send(b"x")
            machine.expect("listening\n")
            raw.execute("system_powerdown")
            assert raw.events == ["POWERDOWN"]
            machine.expect("pressed\n")
            raw.execute("stop")
            raw.execute("system_powerdown")
            raw.execute("cont")
            assert raw.reply() is None
            assert raw.events[1:] == ["STOP", "POWERDOWN", "RESUME", "SHUTDOWN"]
        assert machine.process.wait(20) == 0
        assert machine.expect("SUCCESS\n").endswith("pressed\npressed\nSUCCESS\n")


@pytest.mark.parametrize("args, sentence", [
    ([], "does not listen"), (["--device", "none", "--device", "serial"], "no device power")])
def test_no_power_button(virga, tmp_path, args, sentence):
    """A guest that knows no ACPI, and a machine without the device."""
    words = ["--kernel", guest("spin"), *args]
    with Machine(virga, tmp_path, *words) as machine, Raw(machine.control) as raw:
        raw.send(b'{"execute": "system_powerdown"}')
        error = raw.reply()["error"]
        assert error["class"] == "GenericError" and sentence in error["desc"]
        raw.execute("quit")


def test_stop_holds_the_guest(virga, tmp_path):
    """A guest that prints at each timer tick prints nothing while it is stopped."""
    ticking = ["--kernel", guest("tick"), "--cmdline", "ticks=0 period_ms=10"]
    with Machine(virga, tmp_path, *ticking, "--serial", "stdio") as machine:
        machine.expect("\n")
        with Raw(machine.control) as raw:
            raw.execute("stop")
            time.sleep(0.05)
            before = machine.process.stdout.read() or b""
            time.sleep(0.3)
            assert machine.process.stdout.read() is None, before
            raw.execute("cont")
            machine.output = b""
            machine.expect("\n")


def test_migrate(virga, tmp_path):
    async def drive(machine):
        async with qmp_client(machine) as client:
            await wait_ready(client)
            assert await execute(client, "query-migrate") == {}
            await execute(client, "migrate", uri=f"file:{tmp_path}/one")
            done = await wait_migrate(client)
            assert done["status"] == "completed", done
            assert 0 < done["pause-us"] < 10_000_000
            assert done["downtime"] <= done["total-time"]
            assert (await execute(client, "query-status"))["running"] is True
            # One that was stopped stays stopped.
            await execute(client, "stop")
            await execute(client, "migrate", uri=f"file:{tmp_path}/two")
            assert (await wait_migrate(client))["status"] == "completed"
            assert (await execute(client, "query-status"))["status"] == "paused"
            await execute(client, "cont")
            # What is refused is refused at once and changes nothing.
            await refused(client, "migrate", f"{tmp_path}/one", uri=f"file:{tmp_path}/one")
            await refused(client, "migrate", "absolute", uri="file:relative")
            await refused(client, "migrate", "file:DIR", uri="tcp:127.0.0.1:4444")
            await refused(client, "migrate", "uri")
            await refused(client, "migrate", "/none/there", uri=f"file:{tmp_path}/none/there")
            await refused(client, "migrate", "/proc/new", uri="file:/proc/new")
            assert (await execute(client, "query-migrate"))["status"] == "completed"
            await execute(client, "quit")

    with Machine(virga, tmp_path) as machine:
        asyncio.run(drive(machine))
        assert machine.process.wait(20) == 0
    for name in ("one", "two"):
        assert sorted(os.listdir(tmp_path / name)) == ["config", "memory", "state"]
        assert run(virga, "inspect", "--verify", tmp_path / name).returncode == 0
        answer = run(virga, "invoke", tmp_path / name, "--data", f"echo {name}")
        assert (answer.returncode, answer.stdout) == (0, name), answer.stderr
    assert [entry for entry in os.listdir(tmp_path) if entry.endswith(".tmp")] == []


# --- virga snapshot


def test_snapshot_is_never_a_left_over(virga, tmp_path):
    """What ends in .tmp is virga's, but a whole snapshot under such a name is somebody's."""
    with Machine(virga, tmp_path) as machine:
        for name in ("tpl.tmp", "tpl.tmp/"):
            done = run(virga, "snapshot", machine.control, f"{tmp_path}/{name}")
            assert done.returncode == 2 and "tpl.tmp" in done.stderr
            assert "choose another name" in done.stderr
        with Raw(machine.control) as raw:
            raw.send(b'{"execute": "migrate", "arguments": {"uri": "file:/none/tpl.tmp"}}')
            assert "ends in .tmp" in raw.reply()["error"]["desc"]
        assert run(virga, "snapshot", machine.control, tmp_path / "tpl").returncode == 0
        shutil.copytree(tmp_path / "tpl", tmp_path / "other.tmp")
        done = run(virga, "snapshot", machine.control, tmp_path / "other")
        assert done.returncode == 1 and f"{tmp_path}/other.tmp: is in the way" in done.stderr
        assert run(virga, "inspect", "--verify", tmp_path / "other.tmp").returncode == 0
        (tmp_path / "other.tmp").rename(tmp_path / "kept")
        assert run(virga, "snapshot", machine.control, tmp_path / "other").returncode == 0


def test_snapshot_command(virga, tmp_path):
    with Machine(virga, tmp_path) as machine:
        done = run(virga, "snapshot", machine.control, "relative", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert run(virga, "inspect", "--verify", tmp_path / "relative").returncode == 0
        again = run(virga, "snapshot", machine.control, "relative", cwd=tmp_path)
        assert again.returncode == 2 and "relative" in again.stderr
        nowhere = run(virga, "snapshot", machine.control, tmp_path / "none/there")
        assert nowhere.returncode == 1 and "none/there" in nowhere.stderr
        with Raw(machine.control) as raw:
            assert raw.execute("query-status")["running"] is True
        assert machine.stop() == 0
    gone = run(virga, "snapshot", machine.control, tmp_path / "late")
    assert gone.returncode == 1 and str(machine.control) in gone.stderr
    assert not (tmp_path / "late").exists()


def test_snapshot_command_waits_for_ready(virga, tmp_path):
    """A guest that never says READY; --now does not care."""
    with Machine(virga, tmp_path, "--kernel", guest("spin")) as machine:
        args = ["snapshot", machine.control, tmp_path / "snap"]
        begin = time.monotonic()
        late = run(virga, *args, "--ready-timeout", "2")
        assert 2 <= time.monotonic() - begin < 10
        assert late.returncode == 1
        assert "waiting for the guest to say READY" in late.stderr
        assert "within 2 s" in late.stderr
        assert not (tmp_path / "snap").exists()
        assert run(virga, *args, "--now").returncode == 0
        assert run(virga, "inspect", "--verify", tmp_path / "snap").returncode == 0


def test_snapshot_of_a_machine_that_stands_still(virga, tmp_path):
    """Its supervisor answers, it does not: the time that the user names holds for that too."""
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        pid = machine.vm_process()
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: state(pid) == "T", what="the stop")
        done = run(virga, "snapshot", "--ready-timeout", "1", "--now", machine.control,
                   tmp_path / "s")
        os.kill(pid, signal.SIGCONT)
        assert done.returncode == 1 and "not being saved after 1 s" in done.stderr, done.stderr


@contextlib.contextmanager
def fake(path, talk):
    """Somebody listens at path; talk is given the one connection and its lines."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                talk(connection, lines)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(20)


def commands(lines):
    """The commands of `virga snapshot`, which ends none with a line end."""
    text = b""
    while more := lines.read1():
        text += more
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(text)
            text = b""


def test_snapshot_command_and_an_older_virga(virga, tmp_path):
    """One whose greeting offers nothing is asked for nothing."""
    heard = []

    def talk(connection, lines):
        connection.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
        for command in commands(lines):
            heard.append(command)
            answer = {"status": "completed", "ready": True}
            connection.sendall(json.dumps({"return": answer}).encode() + b"\n")

    with fake(tmp_path / "c", talk):
        done = run(virga, "snapshot", tmp_path / "c", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert [each["execute"] for each in heard] == [
        "qmp_capabilities", "query-status", "migrate", "query-migrate"]
    assert not heard[0]["arguments"]["enable"]
    assert heard[2]["arguments"] == {"uri": f"file:{tmp_path}/s"}


def test_snapshot_command_has_one_time(virga, tmp_path):
    """The greeting, the capabilities and READY share it."""

    def talk(connection, lines):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b'{"QMP": {"version": {}, "capabilities": ["virga-ready"]}}\n')
            for _ in commands(lines):
                time.sleep(1)
                connection.sendall(b'{"return": {}}\n')

    with fake(tmp_path / "c", talk):
        begin = time.monotonic()
        done = run(virga, "snapshot", "--ready-timeout", "1.9", tmp_path / "c", tmp_path / "s")
    assert done.returncode == 1
    # With a time for each it would be the third that fails.
    assert "no answer within 1.9 s" in done.stderr or "no greeting" in done.stderr, done.stderr
    assert time.monotonic() - begin >= 1.9


def test_snapshot_command_and_an_end(virga, tmp_path):
    """The machine ends while the command waits: it says so and does not hang."""
    with Machine(virga, tmp_path, "--kernel", guest("spin")) as machine:
        with Running(virga, "snapshot", machine.control, tmp_path / "snap") as command:
            time.sleep(0.2)
            machine.stop()
            assert command.process.wait(20) == 1
            assert "ended" in command.errors()


@pytest.mark.parametrize("victim", ["supervisor", "vm process"])
def test_snapshot_writer_killed(virga, tmp_path, victim):
    """Under the final name there is a whole snapshot or nothing, whenever its writer dies."""
    chance = random.Random(victim)
    whole = 0
    for i in range(KILLED_WRITERS // 2):
        snapshot = tmp_path / f"snap{i}"
        with Machine(virga, tmp_path) as machine:
            machine.wait_ready()
            with Raw(machine.control) as raw:
                target = machine.vm_process() if victim == "vm process" else machine.process.pid
                raw.execute("migrate", uri=f"file:{snapshot}")
                time.sleep(chance.random() * chance.choice([0.0005, 0.008]))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
            machine.process.wait(20)
            if victim == "vm process":
                assert machine.process.returncode == 125
                assert not Path(f"{snapshot}.tmp").exists()
        machine.control.unlink(missing_ok=True)
        if snapshot.exists():
            whole += 1
            check = run(virga, "inspect", "--verify", snapshot)
            assert check.returncode == 0, check.stderr
            for entry in snapshot.iterdir():
                entry.unlink()
            snapshot.rmdir()
    # What a killed supervisor left is removed by the next, and said, unless it is complete.
    with Machine(virga, tmp_path) as machine:
        removed = 0
        for left in list(tmp_path.glob("*.tmp")):
            args = ["snapshot", machine.control, left.with_suffix("")]
            if run(virga, "inspect", left).returncode == 0:
                done = run(virga, *args)
                assert done.returncode == 1 and f"{left}: is in the way" in done.stderr
                shutil.rmtree(left)
            else:
                removed += 1
            assert run(virga, *args).returncode == 0
        machine.stop()
        assert machine.errors().count("left over") == removed
    assert not list(tmp_path.glob("*.tmp"))
    assert whole < KILLED_WRITERS // 2, "no writer was ever killed in time"


# --- Clients that mean no good


def test_garbage_client(virga, tmp_path):
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        with Raw(machine.control, negotiate=False) as raw:
            assert "QMP" in raw.read()
            raw.send(b"\xff\xfe\x00 hello\n")
            assert raw.read()["error"]["class"] == "GenericError"
            raw.send(b'{"execute": "qmp_capabilities", "id": [1, {"a": null}]}')
            assert raw.read() == {"return": {}, "id": [1, {"a": None}]}
            raw.send(b"[" * 40 + b"]" * 40 + b"\n")
            assert "deep" in raw.read()["error"]["desc"]
            raw.send(b"GET / HTTP/1.1\r\n" * 100)
            replies = []
            with contextlib.suppress(ConnectionResetError):
                while (message := raw.read()) is not None:
                    replies.append(message)
            assert 0 < len(replies) < 100
        with Raw(machine.control) as raw:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.send(b'{"execute": "' + b"x" * 1_000_000)
            assert "65536 bytes" in raw.reply()["error"]["desc"]
        with Raw(machine.control) as raw:
            assert raw.execute("query-status")["running"] is True


def test_slow_client(virga, tmp_path):
    """One that sends and never reads stops being read; what it cannot take ends it, not us."""
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        with Raw(machine.control) as slow, Raw(machine.control) as raw:
            slow.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    slow.sock.send(b'{"execute": "query-commands"}' * 100)
            begin = time.monotonic()
            for _ in range(3000):
                raw.execute("stop")
                raw.execute("cont")
            assert time.monotonic() - begin < 20
            status = Path(f"/proc/{machine.process.pid}/status").read_text()
            assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 20_000
        assert machine.stop() == 0


def test_many_clients(virga, tmp_path):
    """A thousand at once: most are turned away, the first go on working."""
    with Machine(virga, tmp_path) as machine, contextlib.ExitStack() as stack:
        machine.wait_ready()
        first = stack.enter_context(Raw(machine.control))
        turned_away = 0
        for _ in range(1000):
            other = stack.enter_context(Raw(machine.control, negotiate=False))
            greeting = other.read()
            turned_away += "error" in greeting
            if "error" in greeting:
                assert other.read() is None
        assert turned_away >= 900
        assert first.execute("query-status")["running"] is True
        fds = len(os.listdir(f"/proc/{machine.process.pid}/fd"))
        assert fds < 100
        stack.close()
        with Raw(machine.control) as raw:
            assert raw.execute("query-status")["running"] is True


def test_clients_and_few_descriptors(virga, tmp_path):
    """Out of descriptors: clients are turned away, and later ones served again."""

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))

    with Machine(virga, tmp_path, preexec_fn=few) as machine:
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(str(machine.control))
            time.sleep(0.1)
            before = machine.cpu_ticks()
            time.sleep(0.5)
            assert machine.cpu_ticks() - before < 10, "the supervisor spins"
        with Raw(machine.control) as raw:
            assert raw.execute("query-status")["running"] is True


# --- Ends


def test_machine_that_cannot_be_built(virga, tmp_path):
    """The VM process fails before it runs: its sentence, once, and nothing left."""
    text = tmp_path / "text"
    text.write_text("no kernel\n" * 100)
    control, vsock = tmp_path / "control", tmp_path / "vsock"
    args = ["--kernel", text, "--serial", "none", "--control", control, "--vsock", vsock]
    done = run(virga, "run", *args)
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1 and str(text) in done.stderr
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_with_zero(virga, tmp_path, number):
    with Machine(virga, tmp_path, "--vsock", tmp_path / "vsock") as machine:
        machine.wait_ready()
        with Raw(machine.control) as raw:
            assert machine.stop(number) == 0
            assert raw.read()["data"]["reason"] == "host-signal"
        assert number.name in machine.errors()
        assert os.listdir(tmp_path) == []


def test_signal_while_stopped(virga, tmp_path):
    with Machine(virga, tmp_path) as machine, Raw(machine.control) as raw:
        raw.execute("stop")
        assert machine.stop() == 0


def test_vm_process_killed(virga, tmp_path):
    with Machine(virga, tmp_path, "--vsock", tmp_path / "vsock") as machine:
        machine.wait_ready()
        with Raw(machine.control) as raw:
            os.kill(machine.vm_process(), signal.SIGKILL)
            assert raw.read()["data"] == {"guest": False, "reason": "host-error"}
        assert machine.process.wait(20) == 125
        assert "signal 9" in machine.errors()
        assert os.listdir(tmp_path) == []


def test_vm_process_killed_by_the_filter(virga, tmp_path):
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        os.kill(machine.vm_process(), signal.SIGSYS)
        assert machine.process.wait(20) == 125
        assert "system call filter" in machine.errors()


def test_supervisor_killed(virga, tmp_path):
    """The VM process does not outlive it, and its socket is taken over by the next."""
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        vm_process = machine.vm_process()
        machine.stop(signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{vm_process}").exists(), what="the VM process's end")
    assert machine.control.exists()
    with Machine(virga, tmp_path) as machine:
        wait_for(lambda: answers(machine.control), what="the takeover of the socket")
        machine.wait_ready()
        assert machine.stop() == 0


def test_control_path(virga, tmp_path):
    """A live socket is left alone, so is a file; a path that cannot be one is said."""
    with Machine(virga, tmp_path) as machine:
        machine.wait_ready()
        assert os.stat(machine.control).st_mode & 0o777 == 0o600
        second = run(virga, "run", "--serial", "none", "--control", machine.control)
        assert second.returncode == 125 and str(machine.control) in second.stderr
        with Raw(machine.control) as raw:
            assert raw.execute("query-status")["running"] is True
        assert machine.stop() == 0
    plain = tmp_path / "plain"
    plain.write_text("mine")
    refused_file = run(virga, "run", "--serial", "none", "--control", plain)
    assert refused_file.returncode == 125 and plain.read_text() == "mine"
    for path, word in ((tmp_path / ("x" * 120), "bytes"), (tmp_path / "none/there", "none/there")):
        refused_path = run(virga, "run", "--serial", "none", "--control", path)
        assert refused_path.returncode == 125 and word in refused_path.stderr


@contextlib.contextmanager
def terminal():
    """(master, slave, arguments of Popen that make the slave the terminal of a process)."""
    master, slave = pty.openpty()

    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        before = termios.tcgetattr(slave)
        yield master, slave, {"stdin": slave, "preexec_fn": own_terminal}
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def is_raw(slave):
    return not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


@pytest.mark.parametrize("end", ["quit", "killed"])
def test_terminal_is_restored(virga, tmp_path, end):
    with terminal() as (_, slave, own):
        with Machine(virga, tmp_path, "--serial", "stdio", **own) as machine:
            machine.wait_ready()
            assert is_raw(slave)
            if end == "quit":
                with Raw(machine.control) as raw:
                    raw.execute("quit")
                assert machine.process.wait(20) == 0
            else:
                os.kill(machine.vm_process(), signal.SIGKILL)
                assert machine.process.wait(20) == 125


def test_terminal_is_the_guests_by_default(virga):
    """`virga run` on a terminal: Ctrl-C is the guest's, Ctrl-A x ends the machine."""
    with terminal() as (master, slave, own):
        with Running(virga, "run", **own) as machine:
            wait_for(lambda: is_raw(slave), what="raw mode")
            os.write(master, b"\x03")
            with pytest.raises(subprocess.TimeoutExpired):
                machine.process.wait(0.3)
            os.write(master, b"\x01x")
            assert machine.process.wait(20) == 0


@pytest.mark.parametrize("words, raw", [([], False), (["--serial", "stdio"], True)])
@pytest.mark.parametrize("command", ["restore", "clone"])
def test_terminal_and_the_serial_port_of_a_snapshot(virga, tmp_path, command, words, raw):
    """Where the serial port was when the snapshot was made is of no matter."""
    with Machine(virga, tmp_path, "--serial", "stdio") as machine:
        snapshot = tmp_path / "snap"
        assert run(virga, "snapshot", machine.control, snapshot).returncode == 0
        machine.stop()
    with terminal() as (master, slave, own):
        control = Path(f"{machine.control}.0") if command == "clone" else machine.control
        words = [command, snapshot, "--control", machine.control, *words]
        with Running(virga, *words, **own) as again:
            wait_for(control.exists, what="the socket")
            with Raw(control) as qmp:
                wait_for(lambda: qmp.execute("query-status")["running"], what="running")
            assert is_raw(slave) == raw
            os.write(master, b"\x01x" if raw else b"\x03")
            assert again.process.wait(20) == 0
