# SPDX-License-Identifier: Apache-2.0
"""A reader that stops reading holds up neither the time-out of a request nor a signal."""

import signal
import subprocess
import time

import pytest

from helpers import state, wait_for
from templates import make_template

pytestmark = pytest.mark.system

ANSWER = b"x" * (3 << 20)  # more than any pipe holds


@pytest.fixture(scope="module", name="template")
def fixture_template(virga, tmp_path_factory):
    return make_template(virga, tmp_path_factory.mktemp("output"))


def unread(virga, tmp_path, template, command, *args):
    """The command with an answer that nobody reads, once that has begun to come."""
    (tmp_path / "request").write_bytes(ANSWER)
    data = ["--data", f"@{tmp_path}/request"] if command == "invoke" else \
        ["--request", "echo " + "x" * 100000]
    process = subprocess.Popen([virga, command, template, *data, *args],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1)
    return process


def end(process):
    """Exit status and stderr, without having read any more of stdout."""
    status = process.wait(timeout=20)
    err = process.stderr.read().decode()
    process.stdout.close()
    process.stderr.close()
    return status, err


@pytest.mark.parametrize("command", ["invoke", "clone"])
def test_time_out(virga, tmp_path, template, command):
    status, err = end(unread(virga, tmp_path, template, command, "--timeout", "1"))
    assert status == 124
    assert "time-out expired before the answer was read" in err


@pytest.mark.parametrize("command", ["invoke", "clone"])
def test_signal(virga, tmp_path, template, command):
    process = unread(virga, tmp_path, template, command)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    status, err = end(process)
    assert status == 0
    assert "ended by SIGTERM before the answer was read" in err


def test_many_clones(virga, template):
    """The parent of many clones, too, ends by a signal while its output is not read."""
    process = subprocess.Popen([virga, "clone", template, "-n", "8", "--json", "--request",
                                "echo " + "x" * 100000],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    process.stdout.close()
    process.stderr.close()


def test_a_slow_reader_gets_all(virga, tmp_path, template):
    process = unread(virga, tmp_path, template, "invoke")
    time.sleep(0.2)
    assert len(process.stdout.read()) == len(ANSWER) - 1
    assert end(process)[0] == 0


def test_a_stopped_process_goes_on(virga, tmp_path, template):
    """Stopped while it waits for its reader: that wait is begun again."""
    process = unread(virga, tmp_path, template, "invoke")
    for _ in range(5):
        wait_for(lambda: state(process.pid) == "S", what="the wait")
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state(process.pid) == "T", what="the stop")
        process.send_signal(signal.SIGCONT)
    assert len(process.stdout.read()) == len(ANSWER) - 1
    assert end(process)[0] == 0
