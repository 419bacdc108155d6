# SPDX-License-Identifier: Apache-2.0
"""A function host that runs out of memory, descriptors, processes, disk, a reader of its log."""

import contextlib
import fcntl
import json
import os
import resource
import signal
from pathlib import Path

import pytest
from helpers import run, wait_for
from serve_host import Host, descriptors
from templates import build, gone, request_file, small_disk

pytestmark = pytest.mark.system

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("limits"), name="small")


class Group:
    """A control group of version 1 or 2, as far as the tests need one."""

    def __init__(self, controller):
        self.new = (CGROUPS / "cgroup.controllers").exists()
        parent = CGROUPS if self.new else CGROUPS / controller
        self.folder = parent / f"virga-test-{os.getpid()}"
        try:
            if self.new:
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            self.folder.mkdir()
        except OSError as error:
            pytest.skip(f"needs root and control groups in {CGROUPS}, of version 2 or with "
                        f"{controller} of version 1: {error}")
        # For a program: into the group, then on.
        self.command = ["sh", "-c", f'echo $$ >{self.folder}/cgroup.procs && exec "$@"', "sh"]

    def limit(self, file, old_file, value):
        (self.folder / (file if self.new else old_file)).write_text(str(value))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        wait_for(lambda: not (self.folder / "cgroup.procs").read_text(), what="an empty group")
        self.folder.rmdir()


def kill_shells(host):
    pids = host.pids("virga-shell")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(gone, pids)))


@contextlib.contextmanager
def limited(pid, which, value):
    """A resource limit of a process, for a while; the hard one stays."""
    old = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (value, old[1]))
    try:
        yield
    finally:
        if not gone(pid):
            resource.prlimit(pid, which, old)


# --- Memory ---


def test_memory_of_a_group(virga, template):
    """The machine that takes it all is killed, and nothing else."""
    with Group("memory") as group:
        functions = {"builtin": {"timeout": 20}, "f": {"template": str(template)}}
        with Host(virga, functions, command=group.command) as host:
            before = host.steady()
            group.limit("memory.max", "memory.limit_in_bytes", 80 << 20)
            for _ in range(3):
                greedy = host.call(b"dirty 30000")
                for _ in range(20):
                    host.echo("f")
                answer = greedy.answer()
                assert (answer.status, answer.error) == (500, "ServiceException"), answer
                assert "killed by signal 9" in answer.json()["Message"] or \
                    "ended without an answer" in answer.json()["Message"]
                host.echo()
            assert host.said().count("the front was killed") == 0
            host.settled(before)


def test_addresses_of_a_process(virga, template, tmp_path):
    """A machine that does not fit cannot be made; those that do are."""
    large = tmp_path / "large"
    done = run(virga, "template", "build", large, "--memory", "2G")
    assert done.returncode == 0, done.stderr
    functions = {"large": {"template": str(large)}, "f": {"template": str(template)}}
    with Host(virga, functions) as host:
        host.echo("large")
        before = host.steady()
        with limited(host.pid("virga-spawner"), resource.RLIMIT_AS, 1 << 30):
            kill_shells(host)
            for _ in range(5):
                host.echo("f")
                answer = host.invoke(b"echo x", "large")
                assert (answer.status, answer.error) == (500, "ServiceException"), answer
        assert "2048 MiB of guest memory" in host.said()
        assert host.metrics()["virga_build_failures_total", "large"] > 0
        wait_for(lambda: host.invoke(b"echo x", "large").status == 200)
        host.settled(before)


# --- Descriptors ---


def test_descriptors_of_the_front(virga, template):
    functions = {"builtin": {}, "f": {"template": str(template)}}
    with Host(virga, functions) as host, contextlib.ExitStack() as stack:
        before = host.steady()
        front = host.pid("virga-front")
        first = stack.enter_context(host.connect())
        assert first.invoke("builtin", b"echo x").body == b"x"
        with limited(front, resource.RLIMIT_NOFILE, len(descriptors(front)) + 12):
            turned_away = None
            for _ in range(40):
                connection = stack.enter_context(host.connect())
                answer = connection.ask("GET", "/healthz")
                if answer.status == 503:
                    turned_away = answer
                    break
            assert turned_away and "Retry-After" not in turned_away.headers
            kinds = []
            for payload in 500 * [b"echo x", bytes(100000)]:
                if len(kinds) >= 40 and "ServiceException" in kinds:
                    break
                answer = first.invoke("f", payload)
                assert answer.status in (200, 500), answer
                kinds.append(answer.error)
                if answer.error:
                    said = answer.json()["Message"]
                    assert "Too many open files" in said or "descriptor" in said or \
                        "no machine can be made" in said, said
            assert "ServiceException" in kinds
            assert first.ask("GET", "/healthz").status in (200, 503)
        stack.close()
        for name in functions:
            wait_for(lambda n=name: host.invoke(b"echo x", n).status == 200)
        assert host.metrics()["virga_connections_refused_total",] >= 1
        host.settled(before)


def test_descriptors_of_the_spawner(virga, template):
    """It ends where it cannot go on; the next one can."""
    with Host(virga, {"f": {"template": str(template), "timeout": 5}}) as host:
        before = host.steady()
        spawner = host.pid("virga-spawner")
        resource.prlimit(spawner, resource.RLIMIT_NOFILE, (len(descriptors(spawner)), 20000))
        kill_shells(host)
        wait_for(lambda: host.invoke(b"echo x", "f").status == 200)
        host.settled(before)
        host.echo("f")
        assert host.pid("virga-spawner") != spawner


def test_health(virga, template):
    """It is ready while a machine waits or can be made, and alive all the while."""
    functions = {"builtin": {}, "f": {"template": str(template), "timeout": 5}}
    with Host(virga, functions, {"shells": 8}) as host, host.connect() as connection:
        def health():
            answer = connection.ask("GET", "/healthz")
            return answer.status, answer.body.decode()
        assert health() == (200, "ok\n") and host.status()["state"] == "ready"
        before = host.steady()
        with limited(host.pid("virga-spawner"), resource.RLIMIT_AS, 8 << 20):
            kill_shells(host)
            wait_for(lambda: health()[0] == 503)
            assert health()[1].startswith("no machine can be made: ")
            assert host.status()["state"] == "unable"
            assert host.invoke(b"echo x", "f").status == 500
        wait_for(lambda: health() == (200, "ok\n"))
        host.settled(before)
        host.echo("f")


def test_few_descriptors_from_the_start(virga):
    """More machines are wanted than can be: those that can be serve."""
    functions = {"builtin": {"pool": {"min": 100, "max": 100}, "timeout": 10}}
    with Host(virga, functions, command=["prlimit", "--nofile=48:48"]) as host:
        for _ in range(50):
            host.echo()


# --- Processes ---


def test_processes(virga, template):
    """Nothing can be forked, whoever dies; then it can again."""
    functions = {"builtin": {}, "f": {"template": str(template)}}
    with Group("pids") as group, Host(virga, functions, command=group.command) as host:
        before = host.steady()
        for victim in ("shells", "spawner"):
            group.limit("pids.max", "pids.max", 1)
            if victim == "spawner":
                os.kill(host.pid("virga-spawner"), signal.SIGKILL)
                wait_for(lambda: not host.pids("virga-spawner"))
            kill_shells(host)
            for name in functions:
                answer = host.invoke(b"echo x", name)
                assert (answer.status, answer.error) == (500, "ServiceException"), answer
            with host.connect() as connection:
                answer = connection.ask("GET", "/healthz")
                assert answer.status == 503 and answer.body.startswith(b"no machine can be made: ")
            assert host.status()["state"] == "unable"
            assert "cannot fork" in host.said()
            group.limit("pids.max", "pids.max", "max")
            for name in functions:
                wait_for(lambda n=name: host.invoke(b"echo x", n).status == 200)
            host.settled(before)
            with host.connect() as connection:
                assert connection.ask("GET", "/healthz").status == 200
            host.echo()


# --- The log ---


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_disk_of_the_log_is_full(virga, tmp_path):
    """Requests are served, lines that are lost counted; when there is room lines come again."""
    with small_disk(tmp_path / "disk", "128k") as disk:
        with open(disk / "log", "ab") as log, Host(virga, stdout=log) as host:
            host.echo()
            wait_for(lambda: (disk / "log").read_text().count("\n") == 1)
            fill(disk / "fill")
            count = 1
            while not host.metrics()["virga_log_lines_dropped_total",]:
                host.echo()
                count += 1
                assert count < 5000
            (disk / "fill").unlink()

            def again():
                host.echo(text="again")
                return whole_lines(disk / "log")[-1]["request_bytes"] == len("echo again")
            wait_for(again)


def whole_lines(path):
    """Whole lines that are JSON."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def test_nobody_reads_the_log(virga):
    """Lines that do not fit are dropped and counted; what comes is whole."""
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 65536)
    functions = {"builtin": {"concurrency": 1, "queue": 0, "timeout": 60}}
    with Host(virga, functions, stdout=write_fd) as host:
        os.close(write_fd)
        sent = 1
        with host.connect() as busy, host.connect() as connection:
            busy.send_invoke("builtin", b"spin 600000000")
            host.running(1)
            while not host.metrics()["virga_log_lines_dropped_total",]:
                for _ in range(500):
                    assert connection.invoke("builtin").status == 429
                sent += 500
                assert sent < 20000
        wait_for(lambda: host.function()["outcomes"]["cancelled"] == 1)
        host.echo()
        sent += 1
        dropped = int(host.metrics()["virga_log_lines_dropped_total",])
        text = b""
        os.set_blocking(read_fd, False)

        def read_all():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += os.read(read_fd, 1 << 20)
            return text.count(b"\n") == sent - dropped
        wait_for(read_all, what=f"{sent - dropped} of {sent} lines")
        assert {json.loads(line)["outcome"] for line in text.splitlines()} <= \
            {"throttled", "ok", "cancelled"}
        host.echo()
    os.close(read_fd)


def test_end_while_nobody_reads_the_log(virga):
    read_fd, write_fd = os.pipe()
    with contextlib.suppress(BlockingIOError):
        os.set_blocking(write_fd, False)
        while True:
            os.write(write_fd, b"x")
    os.set_blocking(write_fd, True)
    with Host(virga, stdout=write_fd) as host:
        os.close(write_fd)
        for _ in range(10):
            host.echo()
    os.close(read_fd)


def test_log_is_closed(virga):
    """Its reader has gone, or there never was one."""
    read_fd, write_fd = os.pipe()
    with Host(virga, stdout=write_fd) as host:
        os.close(write_fd)
        host.echo()
        os.close(read_fd)
        for _ in range(20):
            host.echo()
        wait_for(lambda: host.metrics()["virga_log_lines_dropped_total",] >= 20)
    with Host(virga, command=["sh", "-c", 'exec "$@" >&-', "sh"]) as host:
        for _ in range(5):
            host.echo()


# --- Memory ---


def test_memory_total(virga):
    """No more is armed than the budget holds; a request has others make room."""
    functions = {"builtin": {"pool": {"min": 50, "max": 50}},
                 "other": {"template": "t", "pool": {"min": 50, "max": 50}}}
    host = Host(virga, functions, {"memory_total": "24M", "bare": 0})
    host.store.mkdir()
    build(virga, host.store, "dirty 1000", name="t")
    with host:
        each = 1 + host.function("other")["template"]["written_pages"] * 4096 / (1 << 20)
        assert each > 4
        for name in ("builtin", "other"):
            host.echo(name)
            wait_for(lambda: host.status()["memory_bytes"] > (24 - 2 * each) * (1 << 20))
            status = host.status()
            assert status["memory_bytes"] <= status["memory_max_bytes"] == 24 << 20
            assert status["shells"] <= 24
        # As with the number of shells, SIGHUP does not change it.
        host.reload(functions, {"memory_total": "1G"})
        wait_for(lambda: "was read again" in host.said())
        assert host.status()["memory_max_bytes"] == 24 << 20


def test_memory_total_is_less_than_a_machine(virga):
    host = Host(virga, {"t": {"pool": {"min": 0, "max": 0}}}, {"memory_total": "16M", "bare": 0})
    host.store.mkdir()
    words = ["template", "build", host.store / "t", "--memory", "64M", "--warm-request",
             request_file(host.folder, "dirty 5000"), "--cmdline", "pages=5000"]
    assert run(virga, *words).returncode == 0
    with host:
        answer = host.invoke(b"echo x", "t")
        assert (answer.status, answer.error) == (500, "ServiceException")
        assert "of the 16 MiB of key 'memory_total'" in answer.json()["Message"]
        host.echo()
