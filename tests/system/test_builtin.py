# SPDX-License-Identifier: Apache-2.0
"""The embedded guest: what it answers to requests, and its vsock streams."""

import json
import re
import socket
import threading
import time

import pytest
from helpers import Running, connect_vsock, run, wait_for
from templates import Kept, run_bytes, take_snapshot

pytestmark = pytest.mark.system

WORD = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
PAYLOAD_MAX = 6 << 20


def dirty_sum(pages):
    return f"{WORD * (pages * (pages + 1) // 2) & MASK:016x}"


def initial_sum(pages):
    words = pages * 512
    return f"{WORD * (words * (words - 1) // 2) & MASK:016x}"


def make_template(virga, folder, *args):
    """A snapshot of an embedded guest that is READY."""
    with Running(virga, "run", "--serial", "none", "--control", folder / "c", *args):
        wait_for((folder / "c").exists, what="the control socket")
        done = run(virga, "snapshot", folder / "c", folder / "template")
        assert done.returncode == 0, done.stderr
    return folder / "template"


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    return make_template(virga, tmp_path_factory.mktemp("builtin"))


def invoke(virga, template, text):
    done = run(virga, "invoke", template, "--data", text)
    return done.returncode, done.stdout, done.stderr


ANSWERS = [
    ("echo hello", "hello"),
    ("echo", ""),
    ("echo  two blanks ", " two blanks "),
    ("anything else", "anything else"),
    ("echoes", "echoes"),
    ("dirty 1", dirty_sum(1)),
    ("dirty 256", dirty_sum(256)),
    ("dirty 4096", dirty_sum(4096)),
    ("sum 1", initial_sum(1)),
    ("sum 64", initial_sum(64)),
    ("spin 100", ""),
    ("touch 1000 255", "1000"),
    ("touch 0 0", "0"),
    ("env HOME", ""),
    ("twice hello", "hello"),
    ("late 1000 hello", "hello"),
    ("log 0 hello", ""),
    ("mark 0123456789abcdef", ""),
    ("big 10", bytes(range(10)).decode()),
    ("mutes", "mutes"),
]


@pytest.mark.parametrize("request_text, answer", ANSWERS, ids=[case[0] for case in ANSWERS])
def test_answer(virga, template, request_text, answer):
    assert invoke(virga, template, request_text)[:2] == (0, answer)


ERRORS = [
    ("dirty", "decimal number"),
    ("dirty x", "decimal number"),
    ("dirty 99999999999999999999999", "decimal number"),
    ("dirty 32768", "not so many pages"),
    ("sum 65", "pages=N"),
    ("spin 600000001", "at most"),
    ("exit 256", "a byte"),
    ("id now", "more text"),
    ("connect x", "a port number"),
    ("connect 9 hello", "refused"),
    ("touch 1", "a byte"),
    ("touch 1 256", "a byte"),
    ("touch 32768 1", "not so many pages"),
    ("log hello", "decimal number"),
    ("late 600000001 hello", "at most"),
    ("mute please", "more text"),
    ("mark short", "16 bytes"),
    ("big 6291457", "longer than 6 MiB"),
    ("garbage", "magic number"),
    ("close", "closed it"),
]


@pytest.mark.parametrize("request_text, sentence", ERRORS, ids=[case[0] for case in ERRORS])
def test_error(virga, template, request_text, sentence):
    status, out, err = invoke(virga, template, request_text)
    assert (status, out) == (1, "") and sentence in err


def test_ends(virga, template):
    assert invoke(virga, template, "exit 7")[0] == 7
    status, _, err = invoke(virga, template, "fault")
    assert status == 126 and "triple fault" in err


def test_few_pages_are_touched(virga, tmp_path):
    """What a request does not need stands apart from what it does (guest.ld)."""
    (tmp_path / "request").write_text("echo x")
    words = ["template", "build", tmp_path / "template", "--warm-request", tmp_path / "request"]
    assert run(virga, *words).returncode == 0
    facts = json.loads(run(virga, "inspect", "--json", tmp_path / "template").stdout)["working_set"]
    assert facts["written_pages"] <= 3 and facts["read_pages"] <= 5


def test_logs_are_said(virga, template):
    status, out, err = invoke(virga, template, "log 3 a line")
    assert (status, out) == (0, "") and err == "virga: guest: a line\n" * 3
    status, out, err = invoke(virga, template, "flood 1000")
    assert (status, out) == (0, "") and "dropped" in err
    assert len(err) < 100000  # of 4000000


@pytest.mark.parametrize("size", [65024, 65025, 1000000, PAYLOAD_MAX])
def test_big_answers(virga, template, size):
    done = run_bytes(virga, "invoke", template, "--data", f"big {size}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (bytes(range(256)) * (size // 256 + 1))[:size]


@pytest.mark.parametrize("request_text", ["mute", "hang", "late 60000000 x"])
def test_no_answer(virga, template, request_text):
    start = time.monotonic()
    done = run(virga, "invoke", template, "--data", request_text, "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (124, "")
    assert 0.3 <= time.monotonic() - start < 5


def test_mark_is_in_memory_and_registers(virga, template, tmp_path):
    """In those of the machine that was told, and of no other of the template."""
    mark = b"FEDCBA9876543210"
    for name, request in (("told", "mark " + mark.decode()), ("other", "echo x")):
        with Kept(virga, template, 1, request, "--control", tmp_path / name):
            snapshot = take_snapshot(virga, tmp_path / f"{name}.0", tmp_path / f"{name}.snapshot")
        memory, state = ((snapshot / file).read_bytes().count(mark) for file in ("memory", "state"))
        if name == "told":
            assert memory >= 16 * 256 and state >= 16
        else:
            assert memory == 0 and state == 0


def test_small_guest_has_no_room(virga, tmp_path):
    template = make_template(virga, tmp_path, "--memory", "4M", "--cmdline", "pages=100000")
    for text in ("log 1 x", "flood 1", "big 1", "twice x", "mark 0123456789abcdef"):
        status, _, err = invoke(virga, template, text)
        assert status == 1 and ("memory" in err or "16 free pages" in err)
    assert invoke(virga, template, "echo hello")[:2] == (0, "hello")


def test_ids_differ(virga, template):
    ids = [invoke(virga, template, "id")[1] for _ in range(5)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids) and len(set(ids)) == 5


def test_time_is_now(virga, template):
    before = time.time_ns()
    told = int(invoke(virga, template, "time")[1])
    assert before - 5_000_000 <= told <= time.time_ns() + 5_000_000


def test_spin_takes_its_time(virga, template):
    start = time.monotonic()
    assert invoke(virga, template, "spin 300000")[0] == 0
    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.parametrize("size", [0, 1, 4019, 4020, 4021, 65536, 262144, PAYLOAD_MAX])
def test_message_of_any_size(virga, template, tmp_path, size):
    data = ("0123456789abcde\n" * (size // 16 + 1))[:size]
    (tmp_path / "request").write_text(data)
    assert invoke(virga, template, f"@{tmp_path}/request")[:2] == (0, data)


@pytest.mark.parametrize("memory", ["4M", "5M", "16M", "1G", "6G"])
def test_memory_sizes(virga, tmp_path, memory):
    template = make_template(virga, tmp_path, "--memory", memory)
    assert invoke(virga, template, "echo hello")[:2] == (0, "hello")
    assert invoke(virga, template, "sum 64")[:2] == (0, initial_sum(64))
    assert invoke(virga, template, "dirty 64")[:2] == (0, dirty_sum(64))


def test_too_large_for_a_small_guest(virga, tmp_path):
    template = make_template(virga, tmp_path, "--memory", "4M")
    (tmp_path / "request").write_text("x" * (5 << 20))
    status, _, err = invoke(virga, template, f"@{tmp_path}/request")
    assert status == 1 and "does not fit" in err


@pytest.mark.parametrize("cmdline, pages", [("pages=0", 0), ("a pages=17  b", 17)])
def test_pages_option(virga, tmp_path, cmdline, pages):
    template = make_template(virga, tmp_path, "--cmdline", cmdline)
    assert invoke(virga, template, f"sum {pages}")[:2] == (0, initial_sum(pages))
    assert invoke(virga, template, f"sum {pages + 1}")[0] == 1


def test_first_output(virga):
    with Running(virga, "run") as machine:
        machine.expect("virga\n", 5)
        assert machine.stop() == 0


# --- vsock streams


def echo_through(sock, data):
    """Sends data, reads as much; the guest closes when we have closed."""
    received = bytearray()

    def read_all():
        while chunk := sock.recv(65536):
            received.extend(chunk)

    reader = threading.Thread(target=read_all)
    reader.start()
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    reader.join(30)
    sock.close()
    return bytes(received)


def accepts(path):
    """Whether the guest is as far as that."""
    try:
        return echo_through(connect_vsock(path, 7), b"x") == b"x"
    except ConnectionRefusedError:
        return False


@pytest.fixture
def machine(virga, tmp_path):
    """An embedded guest that has started; path of its vsock socket."""
    path = tmp_path / "vsock"
    with Running(virga, "run", "--serial", "none", "--vsock", path) as running:
        wait_for(lambda: accepts(path), what="a connection to the guest")
        running.vsock = path
        yield running
        assert running.stop() == 0


def test_echo_port(machine):
    for size in (1, 4096, 1 << 20):
        data = bytes(range(256)) * (size // 256) or b"x"
        assert echo_through(connect_vsock(machine.vsock, 7), data) == data


def test_eight_connections_at_once_and_no_more(machine):
    socks = [connect_vsock(machine.vsock, 7) for _ in range(8)]
    with pytest.raises(ConnectionRefusedError):
        connect_vsock(machine.vsock, 7)
    answers = {}

    def use(index, sock):
        answers[index] = echo_through(sock, bytes([index]) * 300000)

    threads = [threading.Thread(target=use, args=pair) for pair in enumerate(socks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {index: bytes([index]) * 300000 for index in range(8)}
    assert echo_through(connect_vsock(machine.vsock, 7), b"again") == b"again"


def test_connection_that_does_not_read(machine):
    """It fills its own credit and nobody else's."""
    stuck = connect_vsock(machine.vsock, 7)
    stuck.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            stuck.send(bytes(65536))
    assert echo_through(connect_vsock(machine.vsock, 7), b"free") == b"free"
    stuck.close()


def test_port_that_nobody_listens_at(machine):
    with pytest.raises(ConnectionRefusedError):
        connect_vsock(machine.vsock, 8)


def test_many_connections_in_turn(machine):
    for index in range(100):
        data = b"%d" % index
        assert echo_through(connect_vsock(machine.vsock, 7), data) == data
