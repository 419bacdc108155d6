# SPDX-License-Identifier: Apache-2.0
"""What several system tests use: running virga, tiny guests, sockets that appear late."""

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 30


def guest(name):
    """The path of the tiny guest tests/guest/NAME, built by make."""
    path = ROOT / "build/tests/guest" / f"{name}.elf"
    assert path.exists(), f"{path} is missing: run make tests"
    return path


def elf32(image):
    """An ELF64 guest as an ELF32 for i386: other headers, the same segments."""
    kind, _, version, entry, table = struct.unpack_from("<HHIQQ", image, 16)
    (count,) = struct.unpack_from("<H", image, 56)
    head = bytearray(image[:16])
    head[4] = 1  # ELFCLASS32
    head += struct.pack("<HHIIIIIHHHHHH", kind, 3, version, entry, 52, 0, 0, 52, 32, count, 0, 0, 0)
    for at in range(table, table + 56 * count, 56):
        what, flags, offset, virt, phys, filled, size, align = struct.unpack_from(
            "<IIQQQQQQ", image, at
        )
        head += struct.pack("<8I", what, offset, virt, phys, filled, size, flags, align)
    assert len(head) <= table + 56 * count, "the headers became longer"
    return bytes(head) + bytes(image[len(head) :])


def run(virga, *args, timeout=TIMEOUT_S, **kwargs):
    """Runs a command to its end; stdout and stderr as text."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [str(virga), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout,
        check=False,
        encoding="utf-8",
        errors="replace",
        **kwargs,
    )


def run_guest(virga, name, *args, cmdline=None, **kwargs):
    """Boots a tiny guest with its serial port on stdout."""
    words = ["run", "--kernel", guest(name), "--serial", "stdio"]
    if cmdline is not None:
        words += ["--cmdline", cmdline]
    return run(virga, *words, *args, **kwargs)


class Running:
    """A virga that runs in the background; a context that leaves nothing behind."""

    def __init__(self, virga, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [str(virga), *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **kwargs,
        )
        self.output = b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def expect(self, text, timeout=TIMEOUT_S):
        """Reads stdout until text has come; returns all of it so far."""
        text, deadline = text.encode(), time.monotonic() + timeout
        os.set_blocking(self.process.stdout.fileno(), False)
        while text not in self.output:
            chunk = self.process.stdout.read(65536)
            if chunk:
                self.output += chunk
            elif chunk == b"":
                raise AssertionError(f"ended without {text!r}: {self.output!r} {self.errors()!r}")
            elif time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} in {timeout} s: {self.output!r}")
            else:
                time.sleep(0.002)
        return self.output.decode(errors="replace")

    def send(self, data):
        self.process.stdin.write(data)

    def errors(self):
        """All of stderr; call it when the process has ended."""
        return self.process.stderr.read().decode(errors="replace")

    def stop(self, number=signal.SIGTERM, timeout=TIMEOUT_S):
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


def wait_for(condition, timeout=TIMEOUT_S, what="it"):
    """Polls until condition() is true; returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout} s"
        time.sleep(0.005)
    return value


def state(pid):
    """R, S, T (stopped) ... of proc(5)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def connect_vsock(path, port, timeout=TIMEOUT_S):
    """A stream to the guest's port, by the socket that `--vsock PATH` made."""
    wait_for(lambda: Path(path).exists(), timeout, f"the socket {path}")
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(str(path))
    sock.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            sock.close()
            raise ConnectionRefusedError(f"port {port}")
        line += byte
    assert line.startswith(b"OK "), line
    return sock
