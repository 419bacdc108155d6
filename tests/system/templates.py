# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the embedded guest, what is in them, and machines started from them."""

import contextlib
import ctypes
import hashlib
import json
import mmap
import random
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from helpers import ROOT, TIMEOUT_S, Running, run, wait_for

WORD = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
PAGE = 4096
IDENTITY = 0xD0000  # guest-physical, and so the place in `memory`


def dirty_sum(pages):
    """What `dirty N` answers."""
    return f"{WORD * (pages * (pages + 1) // 2) & MASK:016x}"


def initial_sum(pages):
    """What `sum N` answers."""
    words = pages * PAGE // 8
    return f"{WORD * (words * (words - 1) // 2) & MASK:016x}"


def take_snapshot(virga, control, folder):
    """Snapshots the machine behind a control socket, once it is there."""
    wait_for(Path(control).exists, what=f"the socket {control}")
    done = run(virga, "snapshot", control, folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


def make_template(virga, folder, *args, name="template"):
    """A snapshot of an embedded guest that is READY and has 256 pages to sum."""
    control = folder / f"{name}.control"
    words = ["run", "--serial", "none", "--cmdline", "pages=256", "--control", control]
    with Running(virga, *words, *args) as machine:
        take_snapshot(virga, control, folder / name)
        assert machine.stop() == 0
    return folder / name


SMALL = ["--memory", "16M"]


def request_file(folder, text):
    path = folder / "request"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def build(virga, folder, text=None, *args, name="template"):
    """`virga template build`: a template whose working set was learnt from that request."""
    words = ["template", "build", folder / name, *SMALL]
    if text is not None:
        words += ["--warm-request", request_file(folder, text)]
    done = run(virga, *words, *args)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return folder / name


def inspect(virga, folder):
    """What `virga inspect --json` says."""
    done = run(virga, "inspect", "--json", folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(virga, status, sentence, *words, **kwargs):
    """A command that fails with that status and sentence."""
    done = run(virga, *words, **kwargs)
    assert done.returncode == status, done.stderr
    assert sentence in done.stderr, done.stderr
    return done


class Killer:
    """
    Kills commands at random moments, spread over their whole life however fast the machine is:
    later after one that had not got through, earlier after one that had.
    """

    def __init__(self, virga, seed):
        self.virga = virga
        self.random = random.Random(seed)
        self.longest_s = 0.02

    def kill(self, words, through):
        """Starts and kills `virga WORDS`; what through() says then: whether it was done."""
        with Running(self.virga, *words) as process:
            time.sleep(self.random.uniform(0, self.longest_s))
            process.process.send_signal(signal.SIGKILL)
        done = through()
        self.longest_s *= 0.9 if done else 1.15
        return done


def mount_namespace():
    """The words before a command that may mount without anybody seeing it, where there can be one."""
    words = ["unshare", "--mount"]
    done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if done.returncode:  # not permitted, or / is no mount point, as in a plain chroot
        pytest.skip(f"needs mounts of its own ({done.stderr.strip()}): run as root, in a chroot "
                    "with its root a mount point (mount --bind ROOT ROOT)")
    return words


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system in memory of that size, where one may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs root for a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def mounted(folder, *words):
    """A mount on folder, where mounting is permitted."""
    folder.mkdir()
    done = subprocess.run([*words, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {' '.join(map(str, words[:3]))}: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def fuse(tmp_path):
    """A FUSE file system without flags of renameat2(2), which keeps files that are open."""
    (tmp_path / "source").mkdir()
    with mounted(tmp_path / "fuse", "bindfs", tmp_path / "source") as folder:
        yield folder


def run_bytes(virga, *args, timeout=TIMEOUT_S, **kwargs):
    """Runs a command to its end; stdout and stderr as bytes."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    kwargs.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [str(virga), *map(str, args)],
        stderr=subprocess.PIPE,
        timeout=timeout,
        check=False,
        **kwargs,
    )


def invoke(virga, template, text, *args):
    """(status, stdout, stderr) of one request."""
    done = run(virga, "invoke", template, "--data", text, *args)
    return done.returncode, done.stdout, done.stderr


def verify(virga, folder):
    """Fails unless the snapshot's memory is what was saved."""
    done = run(virga, "inspect", "--verify", folder)
    assert done.returncode == 0 and "verified" in done.stdout, done.stderr


def digest(data):
    """Of a file or of bytes: what differs is not printed byte by byte, which takes minutes."""
    return hashlib.sha256(data if isinstance(data, bytes) else Path(data).read_bytes()).hexdigest()


def xxh3(folder):
    """A function that has virga's checksum of bytes, compiled in folder."""
    (folder / "digest.c").write_text(
        "#define XXH_INLINE_ALL\n#include <xxhash.h>\n"
        "unsigned long long digest64(const void *d, unsigned long n)"
        "{ return XXH3_64bits(d, n); }\n"
    )
    include = ["-idirafter", ROOT / "build/deps/include", "-idirafter", ROOT / "build/deps/musl"]
    words = ["gcc", "-O1", "-shared", "-fPIC", *include, "-o", folder / "digest.so"]
    subprocess.run([*words, folder / "digest.c"], check=True)
    library = ctypes.CDLL(str(folder / "digest.so"))
    library.digest64.restype = ctypes.c_uint64
    return lambda data: library.digest64(bytes(data), ctypes.c_ulong(len(data)))


def digests(folder):
    """SHA-256 and time of change of each file."""
    return {file.name: (digest(file), file.stat().st_mtime_ns) for file in folder.iterdir()}


def identity(folder):
    """The generation id in a snapshot's memory."""
    with open(folder / "memory", "rb") as file:
        file.seek(IDENTITY + 16)
        return file.read(16).hex()


def dirty_pages(folder):
    """How many pages of a snapshot's memory hold what `dirty N` wrote."""
    with open(folder / "memory", "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            place = memory.find(struct.pack("<Q", WORD))
            while place >= 0 and place % PAGE:
                place = memory.find(struct.pack("<Q", WORD), place + 1)
            count = 0
            while place >= 0 and place + 8 <= len(memory):
                (word,) = struct.unpack_from("<Q", memory, place)
                if word != WORD * (count + 1) & MASK:
                    break
                count += 1
                place += PAGE
            return count


def children(pid):
    """Process ids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid):
    """Whether a process has ended, reaped or not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    return True


class Kept(Running):
    """`virga clone --keep --json`: once entered, every clone has answered; `answers` by number."""

    def __init__(self, virga, template, count, request, *args, **kwargs):
        self.count = count
        args = ("--keep", "--json", "-n", count, "--request", request, *args)
        super().__init__(virga, "clone", template, *args, **kwargs)

    def __enter__(self):
        try:
            wait_for(self.all_answered, what="all answers")
        except BaseException:
            self.__exit__()
            raise
        objects = map(json.loads, self.output.splitlines())
        self.answers = {each["clone"]: each for each in objects}
        return self

    def all_answered(self):
        self.expect("\n")
        chunk = b""
        while self.output.count(b"\n") < self.count:
            chunk = self.process.stdout.read(65536)
            if not chunk:
                assert chunk is None, f"ended: {self.output!r} {self.errors()!r}"
                return False
            self.output += chunk
        return True
