# SPDX-License-Identifier: Apache-2.0
"""What a process inherits from who started it: limits, ignored and blocked signals."""

import contextlib
import fcntl
import os
import resource
import signal
import subprocess

import pytest
from helpers import TIMEOUT_S, Running, guest, run, wait_for
from serve_host import Host
from templates import Kept, build, children, small_disk, take_snapshot, verify

pytestmark = pytest.mark.system

LIMIT = 4 << 20  # bytes; a machine of the tests has 16 MiB
HOST_LIMIT = 256 << 20
SENTENCE = "ulimit -f"


@pytest.fixture(scope="module", name="template")
def fixture_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("inherited"), "echo x")


def limit_files(size=LIMIT):
    """For preexec_fn: no file may be longer."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


# --- a limit on the size of files (SIGXFSZ)


def test_size_limit_and_a_snapshot(virga, template, tmp_path):
    with Running(virga, "restore", template, "--control", tmp_path / "c",
                 preexec_fn=limit_files()) as machine:
        wait_for((tmp_path / "c").exists, what="the socket")
        done = run(virga, "snapshot", tmp_path / "c", tmp_path / "s")
        assert done.returncode == 1 and SENTENCE in done.stderr, done.stderr
        assert sorted(os.listdir(tmp_path)) == ["c"]
        resource.prlimit(machine.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        for child in children(machine.process.pid):
            resource.prlimit(child, resource.RLIMIT_FSIZE, (-1, -1))
        take_snapshot(virga, tmp_path / "c", tmp_path / "s")
        verify(virga, tmp_path / "s")
        assert machine.stop() == 0


def test_size_limit_and_guest_memory(virga, tmp_path):
    done = run(virga, "run", "--memory", "16M", preexec_fn=limit_files())
    assert done.returncode == 125 and SENTENCE in done.stderr, done.stderr
    done = run(virga, "template", "build", tmp_path / "t", "--memory", "16M",
               preexec_fn=limit_files())
    assert done.returncode == 1 and SENTENCE in done.stderr, done.stderr
    assert os.listdir(tmp_path) == []


def test_size_limit_and_the_serial_file(virga, tmp_path):
    (tmp_path / "out").write_bytes(b"x" * (LIMIT - 2))
    with open(tmp_path / "out", "ab") as out:
        done = subprocess.run(
            [virga, "run", "--kernel", guest("hello"), "--memory", "4M", "--serial", "stdio"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True,
            timeout=TIMEOUT_S, check=False, preexec_fn=limit_files())
    usual = run(virga, "run", "--kernel", guest("hello"), "--serial", "stdio")
    assert done.returncode == usual.returncode
    assert "output is dropped from here on" in done.stderr and SENTENCE in done.stderr
    assert (tmp_path / "out").stat().st_size == LIMIT


def test_size_limit_and_an_archive(virga, template, tmp_path):
    done = run(virga, "template", "export", template, tmp_path / "a.zst",
               preexec_fn=limit_files(1024))
    assert done.returncode == 1 and SENTENCE in done.stderr, done.stderr
    assert os.listdir(tmp_path) == []


def test_size_limit_and_the_log(virga):
    """The log is full from the first line on; requests are served."""
    host = Host(virga, command=("prlimit", f"--fsize={HOST_LIMIT}:unlimited"))
    with open(host.folder / "log", "wb") as log:
        log.truncate(HOST_LIMIT - 1)
    with host:
        front = host.pid("virga-front")
        for _ in range(3):
            host.echo()
        wait_for(lambda: host.metrics()["virga_log_lines_dropped_total",] >= 2, what="lines that are dropped")
        assert host.pid("virga-front") == front and "was killed" not in host.said()


# --- signals


def ignore(*numbers):
    """For preexec_fn: a parent that ignores these, and blocks what it can."""
    def started():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM})
    return started


def test_children_of_a_parent_that_ignores_them(virga, template, tmp_path):
    done = run(virga, "clone", template, "-n", "3", "--request", "echo x",
               preexec_fn=ignore(signal.SIGCHLD))
    assert (done.returncode, done.stdout.count("x\n")) == (0, 3), done.stderr
    with small_disk(tmp_path / "disk", "8k") as disk:
        done = run(virga, "template", "export", template, disk / "a.zst",
                   preexec_fn=ignore(signal.SIGCHLD))
        assert done.returncode == 1 and "No space left" in done.stderr, done.stderr
        assert os.listdir(disk) == []


def test_front_of_a_parent_that_ignores_children(virga):
    with Host(virga, command=("env", "--ignore-signal=CHLD")) as host:
        host.echo()
        os.kill(host.pid("virga-front"), signal.SIGKILL)
        wait_for(lambda: "starting another" in host.said(), what="another front")
        host.echo()


def test_real_time_signals_that_a_parent_ignores(virga):
    """Those by which the keeper tells the front to read its configuration again, and to end."""
    with Host(virga, command=("env", "--ignore-signal=RTMIN", "--ignore-signal=RTMIN+1")) as host:
        (host.folder / "config").write_text("{")
        host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "is not read again" in host.said(), what="the configuration being read")
        host.echo()
        assert host.stop() == 0


@pytest.mark.parametrize("control", [(), ("--control", "c")], ids=["alone", "supervised"])
def test_term_is_never_ignored(virga, tmp_path, control):
    """A parent that ignores and blocks it: each way in which a command waits for its end."""
    words = ("run", "--serial", "stdio", "--kernel", guest("serial_echo"), *control)
    with Running(virga, *words, cwd=tmp_path, preexec_fn=ignore(signal.SIGTERM)) as machine:
        machine.expect("ready")
        assert machine.stop() == 0
        assert "ended by SIGTERM" in machine.errors()
    assert os.listdir(tmp_path) == []


def test_term_is_never_ignored_by_clones(virga, template):
    with Kept(virga, template, 2, "echo x", preexec_fn=ignore(signal.SIGTERM)) as clones:
        pids = children(clones.process.pid)
        assert len(pids) == 2 and clones.stop() == 0
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_term_is_never_ignored_by_a_host(virga):
    command = ("env", "--ignore-signal=TERM", "--block-signal=TERM")
    with Host(virga, command=command) as host:
        host.echo()
        front = host.pid("virga-front")
        assert host.stop() == 0
        assert not os.path.exists(f"/proc/{front}")


def masks(pid):
    """What a process ignores and what it blocks."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["SigIgn"], 16), int(lines["SigBlk"], 16)


def test_term_ends_what_does_not_wait_for_it(virga, template):
    """A command that reads its request has the default, which needs that nothing is blocked."""
    term = 1 << signal.SIGTERM - 1
    with Running(virga, "invoke", template, "--data", "@-", stdin=subprocess.PIPE,
                 preexec_fn=ignore(signal.SIGTERM)) as command:
        wait_for(lambda: not any(mask & term for mask in masks(command.process.pid)),
                 what="a signal that is neither ignored nor blocked")
        assert command.stop() == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("control", [(), ("--control", "c")], ids=["alone", "supervised"])
def test_ignored_stays_ignored(virga, tmp_path, number, control):
    """nohup(1), and a job of a shell without job control."""
    words = ("run", "--serial", "stdio", "--kernel", guest("serial_echo"), *control)
    with Running(virga, *words, stdin=subprocess.PIPE, cwd=tmp_path,
                 preexec_fn=ignore(number)) as machine:
        for letter in (b"a", b"b"):
            machine.send(letter)
            machine.expect(letter.decode())
            machine.process.send_signal(number)
        machine.send(b"c")
        machine.expect("c")
        assert machine.stop() == 0
        assert "ended by SIGTERM" in machine.errors()
    with Running(virga, *words, stdin=subprocess.PIPE, cwd=tmp_path) as machine:
        machine.send(b"a")
        machine.expect("a")
        assert machine.stop(number) == 0


def test_ignored_stays_ignored_in_clones(virga, template):
    with Kept(virga, template, 2, "echo x", preexec_fn=ignore(signal.SIGHUP)) as clones:
        for pid in (clones.process.pid, *children(clones.process.pid)):
            os.kill(pid, signal.SIGHUP)
        assert clones.stop() == 0
        assert "SIGHUP" not in clones.errors()


# --- O_NONBLOCK on a standard file, left there by whoever shares it


def start_waiting(virga, fd, *words, **files):
    """Starts a command and waits until it has made fd wait, or has ended."""
    os.set_blocking(fd, False)
    process = subprocess.Popen([virga, *map(str, words)], stderr=subprocess.PIPE, **files)
    wait_for(lambda: os.get_blocking(fd) or process.poll() is not None, what="a standard file that waits")
    return process


@pytest.mark.parametrize("words", [("invoke", "TEMPLATE", "--data", "@-"),
                                   ("template", "import", "-", "copy")], ids=" ".join)
def test_input_that_does_not_wait(virga, template, tmp_path, words):
    """The writer comes after the reader."""
    archive = tmp_path / "archive"
    assert run(virga, "template", "export", template, archive).returncode == 0
    data, answer = (archive.read_bytes(), b"") if "import" in words else (b"echo late", b"late")
    words = [template if word == "TEMPLATE" else word for word in words]
    read, write = os.pipe()
    process = start_waiting(virga, read, *words, stdin=read, stdout=subprocess.PIPE, cwd=tmp_path,
                            env=dict(os.environ, XDG_DATA_HOME=str(tmp_path)))
    os.close(read)
    with contextlib.suppress(BrokenPipeError), os.fdopen(write, "wb") as file:
        file.write(data)
    assert process.communicate(timeout=TIMEOUT_S) == (answer, b"")
    assert process.returncode == 0


def test_archive_into_what_does_not_wait(virga, template):
    """It is longer than the pipe, and the reader comes late."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    process = start_waiting(virga, write, "template", "export", template, "-", stdout=write)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        assert len(file.read()) > 4096
    assert (process.wait(TIMEOUT_S), process.stderr.read()) == (0, b"")
