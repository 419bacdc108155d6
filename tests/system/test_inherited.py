# SPDX-License-Identifier: Apache-2.0
"""What a process inherits from who started it: limits."""

import os
import resource
import subprocess

import pytest
from helpers import TIMEOUT_S, Running, guest, run, wait_for
from serve_host import Host
from templates import build, children, take_snapshot, verify

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
