# SPDX-License-Identifier: Apache-2.0
"""Snapshots and what is started from them: answers, statuses, identity, isolation, copies."""

import base64
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest

from helpers import Running, connect_vsock, run, wait_for
from templates import (
    Kept,
    children,
    digest,
    digests,
    dirty_pages,
    dirty_sum,
    gone,
    identity,
    initial_sum,
    invoke,
    make_template,
    run_bytes,
    take_snapshot,
    verify,
)

pytestmark = pytest.mark.system

PAYLOAD_MAX = 6 << 20
STAGES = ["process", "memory", "kvm", "devices", "state", "first_exit", "first_response"]


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    return make_template(virga, tmp_path_factory.mktemp("clone"), "--memory", "64M")


def clone_json(virga, template, count, request, *args):
    """(status, objects by number, stderr)."""
    words = ["-n", count, "--json", "--request", request, *args]
    done = run(virga, "clone", template, *words, timeout=100)
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(each["clone"] for each in objects) == list(range(count)), done.stderr
    for each in objects:
        assert set(each) == {"clone", "status", "answer_base64", "us"}
    return done.returncode, {each["clone"]: each for each in objects}, done.stderr


def decode(answer):
    return base64.b64decode(answer["answer_base64"], validate=True).decode()


# --- answers


def test_answers_as_text(virga, template):
    done = run(virga, "clone", template, "-n", 5, "--request", "echo I am %i of %i")
    lines = sorted(done.stdout.splitlines())
    assert lines == [f"clone {i}: I am {i} of {i}" for i in range(5)]
    assert (done.returncode, done.stderr) == (0, "")


def test_only_clone(virga, template):
    done = run(virga, "clone", template, "--request", "echo %i 100% %d %%i")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 100% %d %0\n", "")


@pytest.mark.parametrize("count", [1, 3])
def test_answers_as_json(virga, template, count):
    status, answers, err = clone_json(virga, template, count, "echo %i\t\u00fc\n")
    assert (status, err) == (0, "")
    for i, answer in answers.items():
        assert decode(answer) == f"{i}\t\u00fc\n"
        assert answer["status"] == 0
        assert isinstance(answer["us"], int) and 0 < answer["us"] < 60_000_000


def test_no_answer_as_json(virga, template):
    status, answers, _ = clone_json(virga, template, 2, "exit 9")
    assert status == 9
    for i in range(2):
        assert answers[i] == {"clone": i, "status": 9, "answer_base64": None, "us": None}


def test_error_answer_as_json(virga, template):
    status, answers, err = clone_json(virga, template, 2, "dirty x")
    assert status == 1 and "decimal number" in err
    assert [answers[i]["status"] for i in range(2)] == [1, 1]
    assert "decimal number" in decode(answers[0])


def test_long_answers_as_json(virga, template):
    """Longer than one message between the processes."""
    text = "0123456789abcdef" * 7500
    status, answers, _ = clone_json(virga, template, 3, text + "%i")
    assert status == 0
    assert [decode(answers[i]) for i in range(3)] == [f"{text}{i}" for i in range(3)]


ENDS = [
    ("echo fine", 0, ""),
    ("exit 0", 0, "debug_exit"),
    ("exit 7", 7, "debug_exit"),
    ("exit 255", 255, "debug_exit"),
    ("dirty x", 1, "answered with an error: a decimal number"),
    ("fault", 126, "triple fault"),
    ("spin 60000000", 124, "time-out"),
]


STARTS = ["invoke", "clone", "clone -n 2", "clone --json", "clone --vsock"]


@pytest.mark.parametrize("command", STARTS)
@pytest.mark.parametrize("request_text, status, sentence", ENDS, ids=[case[0] for case in ENDS])
def test_exit_status(virga, template, tmp_path, command, request_text, status, sentence):
    words = command.split()
    option = "--data" if words[0] == "invoke" else "--request"
    words += [tmp_path / "v"] if words[-1] == "--vsock" else []
    limit = ["--timeout", "0.3"] if status == 124 else []
    done = run(virga, words[0], template, *words[1:], option, request_text, *limit)
    assert done.returncode == status, done.stderr
    assert sentence in done.stderr
    if status == 126:
        assert re.search(r"rip[ =:]+(0x)?[0-9a-f]{8,}", done.stderr, re.IGNORECASE)


@pytest.mark.parametrize("request_text, largest", [("exit %i", 3), ("exit 12%i", 123), ("id", 0)])
def test_status_is_the_largest(virga, template, request_text, largest):
    assert clone_json(virga, template, 4, request_text)[0] == largest


def test_time_out_of_some(virga, template):
    """Clones 0 and 1 answer, 2 and 3 do not in time."""
    request = "spin %i0000000"  # 0, 10, 20, 30 s
    status, answers, err = clone_json(virga, template, 3, request, "--timeout", "1")
    assert status == 124 and err.count("time-out") == 2
    assert [answers[i]["status"] for i in range(3)] == [0, 124, 124]


def test_hundred_at_once(virga, template):
    status, answers, err = clone_json(virga, template, 100, "echo this is %i")
    assert (status, err) == (0, "")
    assert [decode(answers[i]) for i in range(100)] == [f"this is {i}" for i in range(100)]


# --- requests and answers of any bytes


def test_six_mebibytes_of_anything(virga, template, tmp_path):
    data = b"\x00\xff" + random.Random(6).randbytes(PAYLOAD_MAX - 2)
    (tmp_path / "request").write_bytes(data)
    done = run_bytes(virga, "invoke", template, "--data", f"@{tmp_path}/request")
    assert (done.returncode, done.stderr) == (0, b"") and digest(done.stdout) == digest(data)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 5, bytes(range(256)) * 33, b"\n\n\r\n"])
def test_binary_from_standard_input(virga, template, data):
    done = subprocess.run(
        [virga, "invoke", template, "--data", "@-"],
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


@pytest.mark.parametrize(
    "command, option, end", [("invoke", "--data", b""), ("clone", "--request", b"\n")]
)
def test_any_bytes_on_the_command_line(virga, template, command, option, end):
    """No UTF-8, and as long as the kernel takes one word."""
    data = (bytes(range(128, 256)) * 1024)[:131071]
    done = subprocess.run(
        [virga, command, template, option, data],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, data + end, b"")


def test_one_byte_too_many(virga, template, tmp_path):
    (tmp_path / "request").write_bytes(bytes(PAYLOAD_MAX + 1))
    done = run(virga, "invoke", template, "--data", f"@{tmp_path}/request")
    assert (done.returncode, done.stdout) == (125, "")
    assert "too long: at most 6291456" in done.stderr


@pytest.mark.parametrize("what, sentence", [("none", "No such file"), (".", "directory")])
def test_request_that_cannot_be_read(virga, template, tmp_path, what, sentence):
    done = run(virga, "invoke", template, "--data", f"@{tmp_path}/{what}")
    assert (done.returncode, done.stdout) == (125, "")
    assert "--data" in done.stderr and sentence in done.stderr


# --- identity


def test_two_hundred_identities(virga, template):
    status, answers, _ = clone_json(virga, template, 200, "id")
    ids = {decode(answer) for answer in answers.values()}
    assert status == 0 and len(ids) == 200
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert identity(template) not in ids


def test_time_is_now(virga, template):
    before = time.time()
    status, answers, _ = clone_json(virga, template, 5, "time")
    after = time.time()
    for answer in answers.values():
        assert before - 1 <= int(decode(answer)) / 1e9 <= after + 1
    assert status == 0


def test_restore_keeps_the_identity(virga, template, tmp_path):
    """The machine continued is the one of the snapshot, a clone of it is another."""
    with Running(virga, "restore", template, "--control", tmp_path / "r") as machine:
        restored = take_snapshot(virga, tmp_path / "r", tmp_path / "restored")
        assert machine.stop() == 0
        assert "reading all memory" not in machine.errors()
    assert identity(restored) == identity(template)
    with Kept(virga, restored, 1, "id", "--control", tmp_path / "c") as clone:
        cloned = take_snapshot(virga, tmp_path / "c.0", tmp_path / "cloned")
        assert identity(cloned) == decode(clone.answers[0]) != identity(template)
        assert clone.stop() == 0


# --- isolation


def test_template_stays_as_it_is(virga, template):
    before = digests(template)
    status, answers, _ = clone_json(virga, template, 20, "dirty 1000")
    assert status == 0 and {decode(each) for each in answers.values()} == {dirty_sum(1000)}
    assert digests(template) == before


def test_clones_do_not_see_each_other(virga, template, tmp_path):
    """While three run that wrote nothing, 100 and 200 pages, each has its own and no more."""
    with Kept(virga, template, 3, "dirty %i00", "--control", tmp_path / "c") as clones:
        for i in range(3):
            assert decode(clones.answers[i]) == dirty_sum(100 * i)
        taken = [take_snapshot(virga, tmp_path / f"c.{i}", tmp_path / f"s{i}") for i in range(3)]
        assert clones.stop() == 0
    assert [dirty_pages(snapshot) for snapshot in taken] == [0, 100, 200]
    assert dirty_pages(template) == 0
    for snapshot in taken:
        verify(virga, snapshot)


def test_clone_holds_no_descriptor_of_another(virga, template):
    """What clone 4 inherits of its parent leads to no other clone."""
    with Kept(virga, template, 5, "echo") as clones:
        counts = []
        for pid in children(clones.process.pid):
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            counts.append(sum(link.startswith("socket:") for link in links))
            assert not any("signalfd" in link for link in links)
        assert counts == [1] * 5
        assert clones.stop() == 0


# --- snapshots of clones


def keep_and_snapshot(virga, template, request, where):
    with Kept(virga, template, 1, request, "--control", f"{where}.c") as clone:
        assert clone.answers[0]["status"] == 0
        take_snapshot(virga, f"{where}.c.0", where)
        assert clone.stop() == 0
    return where


def test_snapshot_of_a_snapshot_of_a_snapshot(virga, tmp_path):
    """Each contains all of its memory: the ones before it are deleted."""
    last = make_template(virga, tmp_path, "--memory", "16M")
    for generation, pages in enumerate([10, 0, 25, 5]):
        before, most = last, max(25 if generation >= 2 else 10, pages)
        last = keep_and_snapshot(virga, before, f"dirty {pages}", tmp_path / f"s{generation}")
        shutil.rmtree(before)
        verify(virga, last)
        assert dirty_pages(last) == most
        assert invoke(virga, last, "sum 256")[:2] == (0, initial_sum(256))
        assert invoke(virga, last, "dirty 30")[:2] == (0, dirty_sum(30))


def test_snapshot_of_a_running_clone_leaves_it_running(virga, template, tmp_path):
    args = ["--control", tmp_path / "c", "--vsock", tmp_path / "v"]
    with Kept(virga, template, 1, "dirty 50", *args) as clone:
        for i in range(3):
            take_snapshot(virga, tmp_path / "c.0", tmp_path / f"s{i}")
            assert echo(tmp_path / "v.0", b"still here") == b"still here"
        assert clone.stop() == 0
    for i in range(3):
        verify(virga, tmp_path / f"s{i}")
        assert dirty_pages(tmp_path / f"s{i}") == 50


@pytest.mark.parametrize("sparse", ["auto", "never", "always"])
def test_copy_is_a_snapshot(virga, template, tmp_path, sparse):
    subprocess.run(["cp", "-r", f"--sparse={sparse}", template, tmp_path / "copy"], check=True)
    verify(virga, tmp_path / "copy")
    assert invoke(virga, tmp_path / "copy", "sum 256")[:2] == (0, initial_sum(256))
    again = keep_and_snapshot(virga, tmp_path / "copy", "dirty 3", tmp_path / "again")
    verify(virga, again)
    if sparse == "never":
        whole, written = (tmp_path / "copy/memory").stat(), (again / "memory").stat()
        assert written.st_blocks < whole.st_blocks // 4, "zero pages were written"


# --- life of kept clones


def test_keep_until_sigterm(virga, template):
    with Kept(virga, template, 3, "echo %i") as clones:
        pids = children(clones.process.pid)
        assert len(pids) == 3 and not any(map(gone, pids))
        assert clones.stop() == 0
        assert all(map(gone, pids))
        errors = clones.errors()
        assert len(errors.splitlines()) == 1 and "SIGTERM" in errors


def test_clone_without_a_request_runs(virga, template, tmp_path):
    with Running(virga, "clone", template, "--vsock", tmp_path / "v") as machine:
        assert echo(tmp_path / "v.0", b"hello") == b"hello"
        assert machine.stop() == 0


def test_parent_killed(virga, template, tmp_path):
    """Its clones end too, whether they have supervisors or not."""
    for args in [[], ["--control", tmp_path / "c"]]:
        with Kept(virga, template, 3, "echo", *args) as clones:
            pids = children(clones.process.pid)
            pids += [each for pid in pids for each in children(pid)]
            clones.stop(signal.SIGKILL)
            wait_for(lambda pids=pids: all(map(gone, pids)), what="the end of the clones")


@pytest.mark.parametrize("supervised", [False, True])
def test_clone_killed_among_many(virga, template, tmp_path, supervised):
    args = ["--vsock", tmp_path / "v"] if supervised else []
    with Kept(virga, template, 5, "echo", *args) as clones:
        pids = children(clones.process.pid)
        victim = children(pids[2])[0] if supervised else pids[2]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: gone(pids[2]), what="the end of one clone")
        assert not any(gone(pid) for pid in pids if pid != pids[2])
        if supervised:
            assert echo(tmp_path / "v.4", b"alive") == b"alive"
        assert clones.stop() == 125
        assert "killed" in clones.errors()


def test_memory_cut_short_ends_only_that_machine(virga, template, tmp_path):
    """A page that is not there any more: a sentence and 125; the clones of a copy go on."""
    shutil.copytree(template, tmp_path / "copy")
    with Kept(virga, template, 1, "echo", "--vsock", tmp_path / "v") as other:
        with Kept(virga, tmp_path / "copy", 1, "echo", "--vsock", tmp_path / "w") as clone:
            os.truncate(tmp_path / "copy/memory", 0)
            with pytest.raises(OSError):
                assert echo(tmp_path / "w.0", b"x" * 50000) == b"x" * 50000
            assert clone.process.wait(30) == 125
            errors = clone.errors()
            assert "its backing file was cut short" in errors, errors
        assert echo(tmp_path / "v.0", b"alive") == b"alive"
        assert other.stop() == 0


def test_few_descriptors(virga, template):
    """More clones than descriptors: a sentence, and none is left behind."""

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = run(virga, "clone", template, "-n", 100, "--request", "echo", "--keep", preexec_fn=few)
    assert done.returncode == 125 and "ulimit -n" in done.stderr


# --- where output goes


@pytest.mark.parametrize("command, option", [("invoke", "--data"), ("clone", "--request")])
def test_timing(virga, template, command, option):
    done = run(virga, command, template, option, "echo", "--timing")
    stages = [line.split() for line in done.stderr.splitlines()]
    assert sorted(name for name, _ in stages) == sorted(STAGES), done.stderr
    times = dict((name, int(us)) for name, us in stages)
    values = [times[name] for name in STAGES]
    assert values == sorted(values) and values[-1] > 0


def test_timing_of_run(virga, tmp_path):
    args = ["--serial", "none", "--timing", "--control", tmp_path / "c"]
    with Running(virga, "run", *args) as machine:
        take_snapshot(virga, tmp_path / "c", tmp_path / "s")
        assert machine.stop() == 0
        assert re.search(r"^ready \d+$", machine.errors(), re.MULTILINE)


@pytest.mark.parametrize("output", ["full", "closed"])
@pytest.mark.parametrize(
    "words, status",
    [
        (["invoke", "T", "--data", "echo hello"], 125),
        (["clone", "T", "--request", "echo hello"], 125),
        (["clone", "T", "--request", "echo hello", "--json"], 125),
        (["clone", "T", "--request", "echo hello", "-n", "3"], 125),
        (["run", "--print-config"], 125),
        (["inspect", "T"], 1),
        (["inspect", "T", "--json"], 1),
        (["devices"], 1),
        (["version"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_output_that_goes_nowhere(virga, template, words, status, output):
    """An answer that nobody gets is an error, said once with its reason."""
    words = [template if word == "T" else word for word in words]
    if output == "full":
        with open("/dev/full", "wb") as full:
            done = run_bytes(virga, *words, stdout=full)
    else:
        done = run_bytes(virga, *words, stdout=None, preexec_fn=lambda: os.close(1))
    assert done.returncode == status, done.stderr
    lines = done.stderr.decode().splitlines()
    reason = "No space left on device" if output == "full" else "Bad file descriptor"
    assert len(lines) == 1 and "standard output" in lines[0] and reason in lines[0]


def test_reader_that_goes_away(virga, template, tmp_path):
    (tmp_path / "request").write_bytes(bytes(PAYLOAD_MAX))
    reader, writer = os.pipe()
    os.close(reader)
    data = f"@{tmp_path}/request"
    with open(writer, "wb") as pipe:
        done = run_bytes(virga, "invoke", template, "--data", data, stdout=pipe)
    assert done.returncode == 125 and b"Broken pipe" in done.stderr


def test_nothing_standard_is_open(virga, tmp_path):
    """What virga opens never becomes its standard output or error: a snapshot stays whole."""

    def close_all():
        os.closerange(0, 3)

    control = tmp_path / "c"
    process = subprocess.Popen(
        [virga, "run", "--serial", "stdio", "--timing", "--control", control],
        preexec_fn=close_all,
    )
    try:
        wait_for(control.exists, what="the socket")
        for fd in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null"
        snapshot = take_snapshot(virga, control, tmp_path / "s")
    finally:
        process.terminate()
        assert process.wait(30) == 0
    verify(virga, snapshot)


# --- memory sizes


def echo(path, data):
    """Through the guest's port 7 and back."""
    sock = connect_vsock(path, 7)
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := sock.recv(65536):
        received += chunk
    sock.close()
    return received


@pytest.mark.parametrize("memory", ["4M", "16M", "6G"])
def test_memory_sizes(virga, tmp_path, memory):
    template = make_template(virga, tmp_path, "--memory", memory)
    with Running(
        virga, "restore", template, "--vsock", tmp_path / "v", "--control", tmp_path / "c"
    ) as machine:
        assert echo(tmp_path / "v", b"restored") == b"restored"
        again = take_snapshot(virga, tmp_path / "c", tmp_path / "again")
        assert machine.stop() == 0
    assert (again / "memory").stat().st_size == (template / "memory").stat().st_size
    verify(virga, again)
    for snapshot in (template, again):
        status, answers, err = clone_json(virga, snapshot, 3, "sum 256")
        assert (status, err) == (0, "")
        assert {decode(each) for each in answers.values()} == {initial_sum(256)}
