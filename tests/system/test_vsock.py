# SPDX-License-Identifier: Apache-2.0
"""The vsock socket as socat and worse clients use it, and what the guest opens itself."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from helpers import Running, connect_vsock, run, wait_for
from templates import Kept, children, digest, gone, make_template, take_snapshot

pytestmark = pytest.mark.system

ECHO = 7
ECHO_STREAMS = 8  # the embedded guest serves so many at once
DATA = random.Random(7).randbytes(3_000_000)


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    return make_template(virga, tmp_path_factory.mktemp("vsock"), "--memory", "16M")


@pytest.fixture(scope="module")
def machine(virga, tmp_path_factory):
    """One running machine for all that must not harm it; it still ends well at the end."""
    path = tmp_path_factory.mktemp("machine") / "v"
    with Running(virga, "run", "--serial", "none", "--vsock", path) as running:
        wait_for(path.exists, what="the vsock socket")
        wait_for(lambda: works(path), what="the guest's echo port")
        running.path = path
        yield running
        assert works(path)
        assert running.stop() == 0, running.errors()
        assert not path.exists()


def raw(path, data=b"", timeout=20):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))  # blocking: a full backlog is waited for
    sock.settimeout(timeout)
    sock.sendall(data)
    return sock


def read_all(sock):
    """What comes until the end; a reset counts as one."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            received += chunk
    return bytes(received)


def works(path):
    """Whether a new connection echoes."""
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        with connect_vsock(path, ECHO) as sock:
            sock.sendall(b"ping")
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock) == b"ping"
    return False


def line(sock):
    text = b""
    while not text.endswith(b"\n"):
        byte = sock.recv(1)
        assert byte, text
        text += byte
    return text


# --- socat


@pytest.mark.parametrize("data", [b"hello\n", DATA[:100_000], DATA], ids=["line", "100 kB", "3 MB"])
def test_socat_echo(machine, tmp_path, data):
    (tmp_path / "in").write_bytes(b"CONNECT 7\n" + data)
    with open(tmp_path / "in", "rb") as request:
        done = subprocess.run(
            ["socat", "-t", "20", "-", f"UNIX-CONNECT:{machine.path}"],
            stdin=request,
            capture_output=True,
            timeout=60,
            check=False,
        )
    first, rest = done.stdout.split(b"\n", 1)
    assert done.returncode == 0, done.stderr
    assert first.startswith(b"OK ") and first[3:].isdigit()
    assert rest == data


def test_both_ways_at_once(machine):
    """What follows the handshake in the same packet belongs to the guest."""
    sock = raw(machine.path, b"CONNECT 7\n" + DATA[:1000])

    def send_rest():
        sock.sendall(DATA[1000:])
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send_rest)
    sender.start()
    assert line(sock).startswith(b"OK ")
    assert digest(read_all(sock)) == digest(DATA)
    sender.join()
    sock.close()


# --- handshakes


@pytest.mark.parametrize(
    "text",
    [
        b"CONNECT 8\n",  # nobody listens there
        b"CONNECT 4294967295\n",
        b"CONNECT 0\n",
        b"CONNECT 4294967296\n",
        b"CONNECT 99999999999999999999999999\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT -7\n",
        b"CONNECT 0x7\n",
        b"CONNECT 7 7\n",
        b"CONNECT 7\0\n",
        b"CONNECT7\n",
        b"\n",
        b"\0\0\0\0\n",
        b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n",
        bytes(range(255, 0, -1)),
        b"CONNECT 7" + b" " * 4096,
        b"C" * 100_000,
    ],
    ids=lambda text: repr(text[:24])[2:-1],
)
def test_handshake_that_is_refused(machine, text):
    """Closed without a word; the next client is served."""
    sock = raw(machine.path)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(text)
    assert read_all(sock) == b""
    sock.close()
    assert works(machine.path)


@pytest.mark.parametrize("text", [b"connect 7\n", b"CONNECT 7\r\n", b"CONNECT 7 \n", b"CONNECT  \t7\n"],
                         ids=repr)
def test_handshake_as_others_take_it(machine, text):
    """In lower case, or with white space around the port; what follows is the guest's."""
    sock = raw(machine.path, text + b"echo")
    sock.shutdown(socket.SHUT_WR)
    assert line(sock).startswith(b"OK ")
    assert read_all(sock) == b"echo"
    sock.close()


def test_handshake_byte_by_byte(machine):
    sock = raw(machine.path)
    for byte in b"CONNECT 7\n":
        sock.sendall(bytes([byte]))
        time.sleep(0.002)
    assert line(sock).startswith(b"OK ")
    sock.sendall(b"split")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"split"
    sock.close()


@pytest.mark.parametrize("text", [b"", b"CONN", b"CONNECT 7", b"CONNECT 7\n"])
def test_client_that_leaves_early(machine, text):
    for _ in range(30):
        raw(machine.path, text).close()
    assert works(machine.path)


def test_half_a_handshake_and_end_of_file(machine):
    sock = raw(machine.path, b"CONNECT 7")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""
    sock.close()


@pytest.mark.parametrize("text", [b"", b"CONNECT "])
def test_two_hundred_that_say_nothing(machine, text):
    """Others work meanwhile; when they are gone, all is as before."""
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(raw(machine.path, text))
        for _ in range(5):
            assert works(machine.path)
    assert works(machine.path)


def test_connections_that_are_open_and_idle(machine):
    """One fewer than the guest takes; bytes go through the one that is left."""
    with contextlib.ExitStack() as stack:
        for _ in range(ECHO_STREAMS - 1):
            stack.enter_context(connect_vsock(machine.path, ECHO))
        for _ in range(20):
            assert works(machine.path)


def test_reset_in_the_middle(machine):
    """A client that dies with data on its way both ways."""
    for _ in range(20):
        sock = raw(machine.path, b"CONNECT 7\n" + DATA[:200_000])
        assert line(sock).startswith(b"OK ")
        sock.close()
    wait_for(lambda: works(machine.path), what="an echo after the resets")


# --- what the guest opens


class Listener:
    """A unix socket that answers each connection with `answer` and what it was sent."""

    def __init__(self, path, answer=b""):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen(16)
        self.sock.settimeout(30)
        self.answer = answer
        self.received = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.sock.accept()
                with client:
                    data = client.recv(65536)
                    self.received.append(data)
                    client.sendall(self.answer + data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sock.close()


def guest_connects(virga, template, path, port, *args):
    request = f"connect {port} hello from the guest"
    return run(virga, "clone", template, "--vsock", path, "--request", request, *args)


def test_guest_connects_to_socat(virga, template, tmp_path):
    path = tmp_path / "v"
    listen = f"UNIX-LISTEN:{path}.0_5000"
    with subprocess.Popen(["socat", listen, "EXEC:'head -c 20'"]) as socat:
        wait_for((tmp_path / "v.0_5000").exists, what="socat's socket")
        done = guest_connects(virga, template, path, 5000)
        assert (done.returncode, done.stdout) == (0, "hello from the guest\n"), done.stderr
        assert socat.wait(20) == 0


def test_guest_connects_from_many_clones(virga, template, tmp_path):
    """Clone i reaches PATH.i_port and no other."""
    with contextlib.ExitStack() as stack:
        for i in range(5):
            path, answer = tmp_path / f"v.{i}_9", b"%d:" % i
            stack.enter_context(Listener(path, answer))
        done = guest_connects(virga, template, tmp_path / "v", 9, "-n", "5")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == [f"clone {i}: {i}:hello from the guest" for i in range(5)]


def test_guest_connects_to_nobody(virga, template, tmp_path):
    """Nothing there, a socket that nobody listens on, a file."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "v.0_6"))
    dead.close()
    (tmp_path / "v.0_7").write_text("a file")
    for port in (5, 6, 7, 4294967294):
        done = guest_connects(virga, template, tmp_path / "v", port)
        assert done.returncode == 1 and "refused" in done.stderr, (port, done.stderr)


def test_guest_connects_without_vsock(virga, template):
    done = run(virga, "clone", template, "--request", "connect 9 hello")
    assert done.returncode == 1 and "refused" in done.stderr


# --- the socket file


def test_stale_socket_is_replaced(virga, tmp_path):
    path = tmp_path / "v"
    with Running(virga, "run", "--serial", "none", "--vsock", path) as machine:
        wait_for(path.exists, what="the socket")
        (vm,) = children(machine.process.pid)
        machine.stop(signal.SIGKILL)
        wait_for(lambda: gone(vm), what="the end of the VM process")
    assert path.is_socket()
    with Running(virga, "run", "--serial", "none", "--vsock", path) as machine:
        wait_for(lambda: works_now(path), what="an echo through the new socket")
        assert machine.stop() == 0
    assert os.listdir(tmp_path) == []


def works_now(path):
    with contextlib.suppress(OSError):
        return works(path)
    return False


def test_live_socket_is_refused(virga, machine):
    done = run(virga, "run", "--serial", "none", "--vsock", machine.path)
    assert done.returncode == 125
    assert str(machine.path) in done.stderr and "another program listens" in done.stderr
    assert works(machine.path)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda path: path.write_text("precious"), "a file of that name"),
        (lambda path: path.mkdir(), "a file of that name"),
        (lambda path: path.symlink_to("/nowhere/at/all"), "a file of that name"),
    ],
    ids=["file", "directory", "dangling link"],
)
def test_what_is_no_socket_is_left_alone(virga, tmp_path, make, sentence):
    path = tmp_path / "v"
    make(path)
    before = os.lstat(path)
    done = run(virga, "run", "--serial", "none", "--vsock", path)
    assert done.returncode == 125 and str(path) in done.stderr and sentence in done.stderr
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize(
    "path, sentence",
    [
        ("none/there", "socket none/there: No such file"),
        ("x" * 101, "device virtio_vsock: key 'path': must be a text of 1 to 100 bytes, not 101"),
        ("", "device virtio_vsock: key 'path': must be a text of 1 to 100 bytes, not 0"),
    ],
    ids=["no directory", "too long", "empty"],
)
def test_path_that_cannot_be(virga, tmp_path, path, sentence):
    done = run(virga, "run", "--serial", "none", "--vsock", path, cwd=tmp_path)
    assert done.returncode == 125 and sentence in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["run", "restore", "clone"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_socket_is_gone_after_the_end(virga, template, tmp_path, command, number):
    path = tmp_path / ("v.0" if command == "clone" else "v")
    words = [command] if command == "run" else [command, template]
    args = [*words, "--serial", "none", "--vsock", tmp_path / "v"]
    with Running(virga, *args) as machine:
        wait_for(lambda: works_now(path), what="an echo")
        with connect_vsock(path, ECHO) as sock:
            assert machine.stop(number) == 0
            assert read_all(sock) == b""
    assert os.listdir(tmp_path) == []


# --- snapshots


def test_snapshot_while_a_connection_is_open(virga, tmp_path):
    """It goes on as if nothing had happened; the restored machine has reset it."""
    args = ["run", "--serial", "none", "--memory", "16M"]
    paths = ["--vsock", tmp_path / "v", "--control", tmp_path / "c"]
    with Running(virga, *args, *paths) as machine:
        with contextlib.ExitStack() as stack:
            wait_for(lambda: works_now(tmp_path / "v"), what="an echo")
            socks = [stack.enter_context(connect_vsock(tmp_path / "v", ECHO))
                     for _ in range(ECHO_STREAMS)]
            received = bytearray()
            reader = threading.Thread(target=lambda: received.extend(read_all(socks[0])))
            writer = threading.Thread(target=socks[0].sendall, args=[DATA])
            reader.start()
            writer.start()
            for i in range(3):
                take_snapshot(virga, tmp_path / "c", tmp_path / f"s{i}")
            writer.join(60)
            socks[0].shutdown(socket.SHUT_WR)
            reader.join(60)
            assert digest(bytes(received)) == digest(DATA)
            for sock in socks[1:]:
                sock.sendall(b"idle till now")
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"idle till now"
        assert machine.stop() == 0
    for i in range(3):
        again = ["--vsock", tmp_path / "w", "--serial", "none"]
        with Running(virga, "restore", tmp_path / f"s{i}", *again) as machine:
            wait_for((tmp_path / "w").exists, what="the socket")
            # All eight were open: they must be free again, and all at once.
            with contextlib.ExitStack() as stack:
                for _ in range(ECHO_STREAMS):
                    sock = stack.enter_context(connect_vsock(tmp_path / "w", ECHO))
                    sock.sendall(b"new")
                    assert sock.recv(3) == b"new"
            assert machine.stop() == 0
        with Kept(virga, tmp_path / f"s{i}", 2, "id", "--vsock", tmp_path / "x") as clones:
            assert works(tmp_path / "x.0") and works(tmp_path / "x.1")
            assert clones.stop() == 0
