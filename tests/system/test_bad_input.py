# SPDX-License-Identifier: Apache-2.0
"""Bad input and bad luck: each has its sentence and status, and leaves nothing half done."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from helpers import ROOT, Running, elf32, guest, run, wait_for
from states import make_reseal, sections  # pylint: disable=unused-import
from templates import (
    children,
    invoke,
    make_template,
    mount_namespace,
    small_disk,
    take_snapshot,
    verify,
)

pytestmark = pytest.mark.system

FLIPPED_BYTES = 300
RESEALED_STATES = 150
KILLED_WRITERS = 100


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    return make_template(virga, tmp_path_factory.mktemp("bad"), "--memory", "16M")


@pytest.fixture
def copy(template, tmp_path):
    """A copy of the template that a test may damage."""
    subprocess.run(["cp", "-r", template, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def refused(done, status, *words):
    """A sentence, nothing on standard output, the right status."""
    assert done.returncode == status, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("virga: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert str(word) in done.stderr


# --- kernels


def elf_for(machine, data=1, kind=2):
    """A guest of ours that claims to be for another machine."""
    image = bytearray(guest("hello").read_bytes())
    image[5] = data
    struct.pack_into("<HH" if data == 1 else ">HH", image, 16, kind, machine)
    return bytes(image)


def grown(size):
    """A guest of ours whose first segment claims so many bytes of memory."""
    image = bytearray(guest("hello").read_bytes())
    (table,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    for i in range(count):
        entry = table + 56 * i
        if struct.unpack_from("<I", image, entry)[0] == 1:  # PT_LOAD
            struct.pack_into("<Q", image, entry + 40, size)
            break
    return bytes(image)


def arm64_image():
    return b"MZ" + bytes(54) + b"ARM\x64" + bytes(4096)


def bzimage(missing=0):
    """The header of a bzImage whose code is not all there."""
    image = bytearray(8192)
    image[0x1F1] = 1
    struct.pack_into("<I", image, 0x1F4, 4096 // 16)
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x200:0x206] = b"\xeb\x66HdrS"
    struct.pack_into("<HB", image, 0x206, 0x20F, 0)
    image[0x211] = 1
    struct.pack_into("<I", image, 0x230, 0x200000)
    struct.pack_into("<H", image, 0x236, 3)
    struct.pack_into("<QI", image, 0x258, 0x1000000, 0x100000)
    return bytes(image[: 1024 + 4096 - missing])


def without_pvh(image):
    """A guest of ours whose notes are no longer among its segments."""
    image = bytearray(image)
    (table,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    for entry in range(table, table + 56 * count, 56):
        if struct.unpack_from("<I", image, entry)[0] == 4:  # PT_NOTE
            struct.pack_into("<I", image, entry, 0)
    return image


def multiboot():
    image = without_pvh(guest("hello").read_bytes())
    struct.pack_into("<III", image, 0x800, 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)
    return image


def at(offset, magic):
    """A file of zeros with these bytes at an offset."""
    return bytes(offset) + magic + bytes(70_000)


KERNELS = {
    "text": (lambda: b"not a kernel\n" * 50, "not a kernel image (starts with \"not a kernel"),
    "empty": (lambda: b"", "is empty"),
    "one byte": (lambda: b"\0", "not a kernel image"),
    "zeros": (lambda: bytes(100_000), "not a kernel image"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(100), "compressed with gzip"),
    "initrd": (lambda: b"070701" + bytes(200), "is it the initrd?"),
    "arm64 image": (arm64_image, "AArch64"),
    "arm64 ELF": (lambda: elf_for(183), "AArch64"),
    "i386 ELF": (lambda: elf_for(3), "i386"),
    "i386 program": (lambda: elf32(without_pvh(guest("hello").read_bytes())), "a 32-bit ELF file without a PVH note"),
    "Multiboot": (multiboot, "a Multiboot kernel: use one with a PVH note"),
    "UEFI firmware": (lambda: at(40, b"_FVH"), "UEFI firmware: a guest has none"),
    "BIOS": (lambda: bytes(0xFFF0) + b"\xea" + bytes(15), "firmware: a guest has none"),
    "ISO": (lambda: at(0x8001, b"CD001"), "an ISO image: a guest has no disk"),
    "qcow2": (lambda: at(0, b"QFI\xfb"), "(qcow2): a guest has no disk"),
    "VMDK": (lambda: at(0, b"KDMV"), "(VMDK): a guest has no disk"),
    "GPT": (lambda: at(512, b"EFI PART"), "(GPT): a guest has no disk"),
    "MBR": (lambda: at(510, b"\x55\xaa"), "(boot sector): a guest has no disk"),
    "big-endian ELF": (lambda: elf_for(62, data=2), "big-endian"),
    "object file": (lambda: elf_for(62, kind=1), "not a linked program"),
    "user program": (lambda: Path("/bin/true").read_bytes(), "kernel "),
    "ELF cut in its header": (lambda: guest("hello").read_bytes()[:40], "are missing"),
    "ELF cut in its segments": (lambda: guest("hello").read_bytes()[:3000], "are missing"),
    "larger than memory": (lambda: grown(200 << 20), "does not fit: it ends "),
    "larger than any memory": (lambda: grown(1 << 63), "does not lie below"),
    "bzImage cut short": (lambda: bzimage(missing=1000), "are missing"),
    "bzImage cut in its header": (lambda: bzimage()[:0x210], "are missing"),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_that_is_none(virga, tmp_path, kernel):
    make, sentence = KERNELS[kernel]
    path = tmp_path / "the-kernel"
    path.write_bytes(make())
    refused(run(virga, "run", "--serial", "none", "--kernel", path), 125, path, sentence)


def test_kernel_larger_than_memory_says_what_would_do(virga, tmp_path):
    path = tmp_path / "kernel"
    path.write_bytes(grown(20 << 20))
    done = run(virga, "run", "--serial", "none", "--kernel", path, "--memory", "16M")
    refused(done, 125, "bytes behind the 16 MiB of memory", "use --memory ")
    enough = re.search(r"--memory (\d+M)", done.stderr)[1]
    args = ["--serial", "none", "--kernel", path, "--memory", enough]
    assert run(virga, "run", *args).returncode == 0


@pytest.mark.parametrize("option", ["--kernel", "--initrd"])
@pytest.mark.parametrize(
    "name, sentence",
    [
        ("none", "No such file"),
        ("directory", "is a directory"),
        ("fifo", "not a regular file"),
        ("file/below", "Not a directory"),
        ("loop", "ymbolic link"),
        ("empty", "is empty"),
        ("/dev/null", "not a regular file"),
    ],
)
def test_image_that_cannot_be_read(virga, tmp_path, option, name, sentence):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to("loop")
    done = run(virga, "run", "--serial", "none", option, tmp_path / name)
    refused(done, 125, tmp_path / name, sentence)


def test_initrd_larger_than_memory(virga, tmp_path):
    path = tmp_path / "initrd"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    args = ["--serial", "none", "--memory", "32M", "--initrd", path]
    refused(run(virga, "run", *args), 125, path, "do not fit between", "bytes too many")


def test_command_line_too_long(virga):
    args = ["--serial", "none", "--cmdline", "x" * 70_000]
    refused(run(virga, "run", *args), 125, "cmdline", "70000 bytes")


# --- options

OPTIONS = [
    (["run", "--memory", "64M", "--memory", "64M"], 125, "--memory: given twice"),
    (["run", "-m", "64M", "--memory=64M"], 125, "--memory: given twice"),
    (["run", "--timing", "--timing"], 125, "--timing: given twice"),
    (["run", "--bogus"], 125, "--bogus: unknown to 'virga run'"),
    (["run", "--bogus=1"], 125, "unknown to 'virga run'"),
    (["run", "-x"], 125, "-x: unknown"),
    (["run", "-xy"], 125, "-x: unknown"),
    (["run", "--cmdline"], 125, "--cmdline: needs a value"),
    (["run", "-m"], 125, "-m: needs a value"),
    (["run", "--timing=5"], 125, "--timing"),
    (["run", "--request", "x"], 125, "--request: 'virga run' does not take it"),
    (["run", "--data=x"], 125, "--data: 'virga run' does not take it"),
    (["run", "operand"], 125, "'operand': 'virga run' takes options only"),
    (["run", "--memory", "3M"], 125, "4M to"),
    (["run", "--memory", "0"], 125, "4M to"),
    (["run", "--memory", "-1"], 125, "4M to"),
    (["run", "--memory", "99999999G"], 125, "4M to"),
    (["run", "--memory", "18446744073709551615"], 125, "4M to"),
    (["run", "--memory", "128Mi"], 125, "4M to"),
    (["run", "--memory", "128m"], 125, "4M to"),
    (["run", "--memory", ""], 125, "4M to"),
    (["run", "--memory", "5000001"], 125, "whole pages"),
    (["run", "--cpus", "0"], 125, "from 1 to 16"),
    (["run", "--cpus", "17"], 125, "from 1 to 16"),
    (["run", "--cpus", "1x"], 125, "from 1 to 16"),
    (["run", "--cpus", ""], 125, "from 1 to 16"),
    (["run", "--serial", "com1"], 125, "stdio, none, pty and file:PATH"),
    (["run", "--serial", "file:"], 125, "stdio, none, pty and file:PATH"),
    (["run", "--serial", "file:/none/there"], 125, "/none/there"),
    (["run", "--serial", "file:/"], 125, "serial"),
    (["run", "--kernel", ""], 125, "kernel"),
    (["run", "--name", ""], 125, "name"),
    (["run", "--name", "x" * 65], 125, "65 bytes"),
    (["run", "--name", b"\xff\xfe"], 125, "UTF-8"),
    (["run", "--control", "x" * 101], 125, "101 bytes"),
    (["run", "--control", "/none/there"], 125, "/none/there"),
    (["run", "--config", "/none/there"], 125, "/none/there"),
    (["clone"], 125, "needs DIR"),
    (["clone", ""], 125, "needs DIR"),
    (["clone", "T", "more"], 125, "'more': 'virga clone' takes DIR"),
    (["clone", "T", "-n", "0"], 125, "a whole number from 1 to"),
    (["clone", "T", "-n", "-1"], 125, "a whole number from 1 to"),
    (["clone", "T", "-n", "99999999"], 125, "a whole number from 1 to"),
    (["clone", "T", "-n", "2x"], 125, "a whole number from 1 to"),
    (["clone", "T", "-n", ""], 125, "a whole number from 1 to"),
    (["clone", "T", "--timeout", "0"], 125, "seconds from 0.001"),
    (["clone", "T", "--timeout", "-1"], 125, "seconds from 0.001"),
    (["clone", "T", "--timeout", "nan"], 125, "seconds from 0.001"),
    (["clone", "T", "--timeout", "1e9"], 125, "seconds from 0.001"),
    (["clone", "T", "--timeout", "soon"], 125, "seconds from 0.001"),
    (["clone", "T", "--memory", "64M"], 125, "does not take it"),
    (["restore"], 125, "needs DIR"),
    (["restore", "T", "--count", "2"], 125, "does not take it"),
    (["invoke", "T", "--data", "a", "--data", "b"], 125, "--data: given twice"),
    (["invoke", "T", "--keep"], 125, "does not take it"),
    (["invoke"], 125, "needs NAME|DIR"),
    (["snapshot", "S"], 2, "needs SOCKET DIR"),
    (["snapshot", "S", "D", "E"], 2, "takes SOCKET DIR"),
    (["snapshot", "S", "D", "--ready-timeout", "0"], 2, "seconds from 0.001"),
    (["snapshot", "S", "D", "--json"], 2, "does not take it"),
    (["inspect"], 2, "needs NAME|DIR"),
    (["inspect", "T", "--timing"], 2, "does not take it"),
    (["devices", "x"], 2, "takes options only"),
    (["devices", "--verify"], 2, "does not take it"),
    (["version", "--json"], 2, "does not take it"),
    (["boot"], 2, "'boot' is not a command"),
    (["--bogus"], 2, "'--bogus' is not a command"),
    ([""], 2, "'' is not a command"),
]


@pytest.mark.parametrize(
    "words, status, sentence", OPTIONS, ids=[" ".join(map(str, case[0]))[:40] for case in OPTIONS]
)
def test_option(virga, template, tmp_path, words, status, sentence):
    words = [str(template) if word == "T" else word for word in words]
    done = subprocess.run(
        [os.fsencode(virga), *map(os.fsencode, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode(errors="replace")
    refused(done, status, sentence)
    assert os.listdir(tmp_path) == []


def test_no_command(virga):
    done = run(virga)
    assert (done.returncode, done.stdout) == (2, "") and "usage: virga" in done.stderr


COMMANDS = [
    *["run", "snapshot", "restore", "clone", "invoke", "serve", "status", "inspect", "devices"],
    *[f"template {verb}" for verb in ("build", "list", "check", "rm", "export", "import")],
    "version",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_screen(virga, command):
    """Each option's help begins in the same column, beside it or below, and ends before column 100."""
    done = run(virga, *command.split(), "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: virga {command} [OPTION...]")
    lines = done.stdout.splitlines()
    assert len(lines) < 25 and max(map(len, lines)) < 100
    for line in lines[3:]:
        option, text = line[:28].strip(), line[28:]
        assert re.fullmatch(r" \S.*", text) or (option.startswith("--") and len(line) < 40), line
    assert "ELF64" not in done.stdout  # ELF32 boots too


CONFIGS = [
    (b"", "line 1"),
    (b"{", "line 1"),
    (b"{\n\n'memory': 1}", "line 3"),
    (b"[]", "one JSON object"),
    (b"[1, 2", "line 1"),
    (b"null", "line 1"),
    (b'"memory"', "line 1"),
    (b"{} {}", "line 1"),
    (b'{"memory": "64M", "memory": "64M"}', "duplicate"),
    (b'{"bogus": 1}', "no key 'bogus'"),
    (b'{"config": "x"}', "no key 'config'"),
    (b'{"memory": "1M"}', "4M to"),
    (b'{"memory": 1.5}', "memory"),
    (b'{"memory": 1e300}', "memory"),
    (b'{"memory": -4194304}', "4M to"),
    (b'{"memory": null}', "key 'memory': "),
    (b'{"memory": ["64M"]}', "key 'memory': "),
    (b'{"memory": {"size": "64M"}}', "key 'memory': "),
    (b'{"cpus": true}', "key 'cpus': "),
    (b'{"cpus": 99999999999999999999}', "line 1"),
    (b'{"cpus": 17}', "1 to 16"),
    (b'{"name": 5}', "key 'name': "),
    (b'{"name": "a\\u0000b"}', "line 1"),
    (b'{"name": "\xff"}', "line 1"),
    (b"[" * 100_000, "line 1"),
    (bytes(100), "line 1"),
    (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "line 1"),
]


@pytest.mark.parametrize("text, sentence", CONFIGS, ids=[repr(case[0][:30]) for case in CONFIGS])
def test_config(virga, tmp_path, text, sentence):
    path = tmp_path / "config"
    path.write_bytes(text)
    done = run(virga, "run", "--serial", "none", "--config", path)
    refused(done, 125, path, sentence)


def test_config_that_is_a_directory(virga, tmp_path):
    refused(run(virga, "run", "--config", tmp_path), 125, tmp_path, "cannot be read")


def test_config_goes_round(virga, tmp_path):
    """What --print-config prints is what --config reads; options go before it."""
    words = ["--memory", "64M", "--cmdline", 'a "b" \u00fc', "--serial", "none", "--name", "n"]
    printed = run(virga, "run", *words, "--print-config")
    (tmp_path / "config").write_text(printed.stdout, encoding="utf-8")
    again = run(virga, "run", "--config", tmp_path / "config", "--print-config")
    assert again.stdout == printed.stdout and json.loads(again.stdout)["cmdline"] == words[3]
    words = ["--config", tmp_path / "config", "--memory", "96M", "--print-config"]
    assert json.loads(run(virga, "run", *words).stdout)["memory"] == "96M"


# --- snapshots that are damaged

START = [["restore"], ["clone"], ["clone", "-n", "2"], ["invoke"]]


def start(virga, words, folder, **kwargs):
    return run(virga, words[0], folder, *words[1:], timeout=20, **kwargs)


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_state_with_a_flipped_byte(virga, copy):
    """Any of a sample, and each byte of the header; the unit test does all of them."""
    good = (copy / "state").read_bytes()
    chance = random.Random(0)
    places = [*range(64), *chance.sample(range(64, len(good)), FLIPPED_BYTES), len(good) - 1]
    for place in places:
        bad = bytes([good[place] ^ chance.randrange(1, 256)])
        patch(copy / "state", place, bad)
        done = run(virga, "invoke", copy, "--data", "echo")
        refused(done, 125, copy / "state")
        patch(copy / "state", place, good[place : place + 1])
    assert invoke(virga, copy, "echo hello")[:2] == (0, "hello")


def test_config_with_a_flipped_byte(virga, copy):
    """All of them: it is small."""
    good = (copy / "config").read_bytes()
    for place, byte in enumerate(good):
        patch(copy / "config", place, bytes([byte ^ 1]))
        done = run(virga, "invoke", copy, "--data", "echo")
        refused(done, 125, copy / "config", "not the one that the snapshot was made with")
        patch(copy / "config", place, bytes([byte]))
    assert invoke(virga, copy, "echo hello")[:2] == (0, "hello")


def test_memory_with_a_flipped_byte(virga, copy):
    """A start does not read all of memory; --verify does."""
    patch(copy / "memory", 5 << 20, b"\x01")
    done = run(virga, "inspect", "--verify", copy)
    refused(done, 2, copy / "memory", "damaged")


@pytest.mark.parametrize("name", ["config", "state", "memory"])
@pytest.mark.parametrize("change", ["empty", "1", "half", "-1", "+1"])
@pytest.mark.parametrize("words", START, ids=" ".join)
def test_file_of_another_length(virga, copy, name, change, words):
    size = (copy / name).stat().st_size
    lengths = {"empty": 0, "1": 1, "half": size // 2, "-1": size - 1, "+1": size + 1}
    os.truncate(copy / name, lengths[change])
    refused(start(virga, words, copy), 125, copy / name)
    refused(run(virga, "inspect", copy), 2, copy / name)


def test_state_truncated_at_many_lengths(virga, copy):
    good = (copy / "state").read_bytes()
    for length in random.Random(1).sample(range(len(good)), 60):
        (copy / "state").write_bytes(good[:length])
        refused(run(virga, "invoke", copy), 125, copy / "state", "cut short")


@pytest.mark.parametrize("name", ["config", "state", "memory"])
@pytest.mark.parametrize("what", ["missing", "directory", "fifo", "socket", "loop"])
def test_file_of_another_kind(virga, copy, name, what):
    path = copy / name
    path.unlink()
    sentence = "cannot be opened" if what in ("socket", "loop") else "not a regular file"
    if what == "missing":
        sentence = f"has no file '{name}'"
    elif what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(name)
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    for words in START:
        refused(start(virga, words, copy), 125, copy, sentence)
    refused(run(virga, "inspect", copy), 2, copy, sentence)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("none", "No such file"),
        ("empty", "not a snapshot: it has no file"),
        ("file", "not a snapshot"),
    ],
)
def test_directory_that_is_no_snapshot(virga, tmp_path, name, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for words in START:
        refused(start(virga, words, tmp_path / name), 125, tmp_path / name, sentence)
    refused(run(virga, "inspect", tmp_path / name), 2, tmp_path / name, sentence)


def test_parts_of_two_snapshots(virga, template, tmp_path):
    """Of another machine each: config is told from its checksum, memory from its length."""
    other = make_template(virga, tmp_path, "--memory", "20M", name="other")
    for name in ("config", "state", "memory"):
        shutil.copytree(template, tmp_path / name)
        subprocess.run(["cp", other / name, tmp_path / name / name], check=True)
        refused(run(virga, "invoke", tmp_path / name), 125, tmp_path / name)


# --- snapshots that are whole but not for us


SECTIONS = ["machine", "memory", "config", "vcpu", "ioapic", "serial", "virtio_vsock"]


def test_reseal_is_right(template, reseal):
    state = (template / "state").read_bytes()
    assert reseal(state) == state


@pytest.mark.parametrize(
    "offset, value, sentence",
    [
        (0, 0x6B6E756A, "not the state of a snapshot"),
        (8, 99, "format version 99; this virga reads version 1"),
        (12, 183, "another architecture"),
        (16, 65536, "pages of 65536 bytes"),
    ],
)
def test_state_of_another_format(virga, copy, reseal, offset, value, sentence):
    state = bytearray((copy / "state").read_bytes())
    struct.pack_into("<I", state, offset, value)
    (copy / "state").write_bytes(reseal(state))
    for words in START:
        refused(start(virga, words, copy), 125, copy / "state", sentence)


@pytest.mark.parametrize("section", SECTIONS)
def test_section_of_another_version(virga, copy, reseal, section):
    state = bytearray((copy / "state").read_bytes())
    struct.pack_into("<I", state, sections(state)[section][0] + 28, 77)
    (copy / "state").write_bytes(reseal(state))
    refused(run(virga, "invoke", copy), 125, copy, section, "version 77")


@pytest.mark.parametrize("section", SECTIONS)
def test_section_that_is_missing(virga, copy, reseal, section):
    """Renamed, so that another is there instead."""
    state = bytearray((copy / "state").read_bytes())
    entry = sections(state)[section][0]
    state[entry : entry + 24] = b"virtio_wheel".ljust(24, b"\0")
    (copy / "state").write_bytes(reseal(state))
    done = run(virga, "invoke", copy)
    refused(done, 125, copy)
    assert section in done.stderr or "virtio_wheel" in done.stderr


def test_memory_of_another_size(virga, copy, reseal):
    """Said by state, with checksums that fit."""
    state = bytearray((copy / "state").read_bytes())
    struct.pack_into("<Q", state, sections(state)["machine"][1], 32 << 20)
    (copy / "state").write_bytes(reseal(state))
    refused(run(virga, "invoke", copy), 125, copy)


def test_state_of_any_content(virga, copy, reseal):
    """Fields with values that no machine has: an error or a machine, never a crash of virga."""
    good = (copy / "state").read_bytes()
    parts = [part for part in sections(good).values() if part[2]]
    chance = random.Random(2)
    for _ in range(RESEALED_STATES):
        state = bytearray(good)
        _, offset, length = chance.choice(parts)
        for _ in range(chance.choice([1, 1, 2, 4])):
            size = chance.choice([1, 2, 4, 8])
            place = offset + chance.randrange(max(1, length - size))
            value = chance.choice([0, ~0, 1 << (8 * size - 1), chance.getrandbits(64)])
            state[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        (copy / "state").write_bytes(reseal(state))
        done = run(virga, "invoke", copy, "--data", "sum 16", "--timeout", "0.2")
        assert done.returncode in (0, 1, 124, 125, 126), (done.returncode, done.stderr)
        assert done.returncode == 0 or "virga: " in done.stderr


SOURCES = "Makefile arch boot devices guest seccomp serve tests vmm.c vmm.h".split()


@pytest.fixture(scope="module")
def small_virga(tmp_path_factory):
    """virga without a serial port: only what differs is built anew."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        subprocess.run(["cp", "-a", ROOT / name, tree], check=True)
    (tree / "build").mkdir()
    subprocess.run(["cp", "-a", ROOT / "build/obj", tree / "build"], check=True)
    (tree / "build/flags").write_bytes((ROOT / "build/flags").read_bytes())
    shutil.copystat(ROOT / "build/flags", tree / "build/flags")
    (tree / "build/deps").symlink_to(ROOT / "build/deps")
    ours = ("MAKE", "MFLAGS")  # this may run below a make
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        ["make", "-C", tree, "DEVICES=debug_exit power park virtio_vsock", "virga"],
        capture_output=True,
        text=True,
        env=env,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree / "virga"


def test_snapshot_of_another_device_set(virga, small_virga, template, tmp_path):
    for words in START:
        done = start(small_virga, words, template)
        if words[-1] == "2":
            assert done.returncode == 125 and done.stderr.count("build with DEVICES=") == 2
            continue
        refused(done, 125, template, "device serial", 'build with DEVICES="serial debug_exit')
    with Running(small_virga, "run", "--control", tmp_path / "c") as machine:
        snapshot = take_snapshot(small_virga, tmp_path / "c", tmp_path / "s")
        assert machine.stop() == 0
    for program in (small_virga, virga):  # the other has more classes than the machine uses
        assert invoke(program, snapshot, "echo hello")[:2] == (0, "hello")
    assert run(virga, "inspect", snapshot).returncode == 0


# --- where a snapshot cannot be written


@pytest.fixture
def machine(virga, tmp_path):
    """A running machine that all of it leaves alone."""
    control = tmp_path / "control"
    words = ["run", "--serial", "none", "--memory", "16M", "--cmdline", "pages=256"]
    with Running(virga, *words, "--control", control) as running:
        wait_for(control.exists, what="the socket")
        running.control = control
        yield running
        take_snapshot(virga, control, tmp_path / "afterwards")
        verify(virga, tmp_path / "afterwards")
        assert running.stop() == 0


@pytest.mark.parametrize("size", ["8k", "16k", "512k"])
def test_disk_is_full(virga, machine, tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        done = run(virga, "snapshot", machine.control, disk / "s")
        refused(done, 1, "No space left on device")
        assert os.listdir(disk) == []


def test_disk_has_no_inode_left(virga, machine, tmp_path):
    with small_disk(tmp_path / "disk", "64m,nr_inodes=4") as disk:
        refused(run(virga, "snapshot", machine.control, disk / "s"), 1, "No space left on device")
        assert os.listdir(disk) == []


def test_disk_is_read_only(virga, machine, tmp_path):
    with small_disk(tmp_path / "disk", "64m,ro") as disk:
        done = run(virga, "snapshot", machine.control, disk / "s")
        refused(done, 1, "Read-only file system", disk)


@pytest.mark.parametrize("what", ["directory", "snapshot", "file", "dangling link"])
def test_name_is_taken(virga, template, machine, tmp_path, what):
    path = tmp_path / "taken"
    if what == "directory":
        path.mkdir()
    elif what == "snapshot":
        shutil.copytree(template, path)
    elif what == "file":
        path.write_text("precious")
    else:
        path.symlink_to("nowhere")
    before = os.lstat(path)
    refused(run(virga, "snapshot", machine.control, path), 2, path, "exists already")
    if path.is_dir():
        refused(run(virga, "snapshot", machine.control, f"{path}/"), 2, path, "exists already")
    after = os.lstat(path)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("none/there", "No such file"),
        ("file/below", "Not a directory"),
        ("x" * 256, "name too long"),
        ("x" * 253, "name too long"),
        ("/proc/new", "/proc/new"),
    ],
)
def test_place_that_cannot_be(virga, machine, tmp_path, name, sentence):
    (tmp_path / "file").write_text("x")
    done = run(virga, "snapshot", machine.control, tmp_path / name)
    assert done.returncode in (1, 2)
    refused(done, done.returncode, sentence)


def test_left_over_with_something_else_in_it(virga, machine, tmp_path):
    """Never removed: it is not ours."""
    (tmp_path / "s.tmp").mkdir()
    (tmp_path / "s.tmp/diary").write_text("precious")
    done = run(virga, "snapshot", machine.control, tmp_path / "s")
    refused(done, 1, "diary", "no part of a snapshot")
    assert (tmp_path / "s.tmp/diary").read_text() == "precious"


def test_left_over_that_is_no_directory(virga, machine, tmp_path):
    (tmp_path / "s.tmp").symlink_to("/tmp")
    refused(run(virga, "snapshot", machine.control, tmp_path / "s"), 1, "s.tmp")
    (tmp_path / "t.tmp").write_text("precious")
    refused(run(virga, "snapshot", machine.control, tmp_path / "t"), 1, "t.tmp")
    assert (tmp_path / "t.tmp").read_text() == "precious"


@pytest.mark.parametrize("removed", ["s.tmp", "s.tmp/memory", "s.tmp/state", "s.tmp/config", "."])
def test_directory_removed_half_way(virga, machine, tmp_path, removed):
    """The VM process is held while it should write; then what it writes to is gone."""
    place = tmp_path / "place"
    place.mkdir()
    (vm,) = children(machine.process.pid)
    assert run(virga, "snapshot", machine.control, tmp_path / "before").returncode == 0
    os.kill(vm, signal.SIGSTOP)
    try:
        command = Running(virga, "snapshot", "--now", machine.control, place / "s")
        wait_for((place / "s.tmp/memory").exists, what="the file memory")
        gone = place / removed
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    finally:
        os.kill(vm, signal.SIGCONT)
    with command:
        assert command.process.wait(30) == 1
        assert "went away while the snapshot was written" in command.errors()
    assert not (place / "s").exists() and not (place / "s.tmp").exists()


def test_two_writers_of_one_name(virga, machine, tmp_path):
    """The second is told; the first is not disturbed."""
    (vm,) = children(machine.process.pid)
    assert run(virga, "snapshot", machine.control, tmp_path / "before").returncode == 0
    with Running(virga, "run", "--serial", "none", "--control", tmp_path / "c") as other:
        take_snapshot(virga, tmp_path / "c", tmp_path / "other")
        os.kill(vm, signal.SIGSTOP)
        try:
            command = Running(virga, "snapshot", "--now", machine.control, tmp_path / "s")
            wait_for((tmp_path / "s.tmp/memory").exists, what="the file memory")
            done = run(virga, "snapshot", tmp_path / "c", tmp_path / "s")
            refused(done, 1, "another snapshot is being written to it")
            done = run(virga, "snapshot", "--now", machine.control, tmp_path / "t")
            refused(done, 1, "a snapshot is being written already")
        finally:
            os.kill(vm, signal.SIGCONT)
        with command:
            assert command.process.wait(30) == 0, command.errors()
        assert other.stop() == 0
    verify(virga, tmp_path / "s")
    assert not (tmp_path / "t").exists()


def test_name_taken_half_way(virga, machine, tmp_path):
    (vm,) = children(machine.process.pid)
    assert run(virga, "snapshot", machine.control, tmp_path / "before").returncode == 0
    os.kill(vm, signal.SIGSTOP)
    try:
        command = Running(virga, "snapshot", "--now", machine.control, tmp_path / "s")
        wait_for((tmp_path / "s.tmp/memory").exists, what="the file memory")
        (tmp_path / "s").mkdir()
    finally:
        os.kill(vm, signal.SIGCONT)
    with command:
        assert command.process.wait(30) == 1
        assert "was made by another meanwhile" in command.errors()
    assert os.listdir(tmp_path / "s") == [] and not (tmp_path / "s.tmp").exists()


def test_not_a_control_socket(virga, tmp_path):
    (tmp_path / "file").write_text("x")
    for name, sentence in [("none", "No such file"), ("file", "Connection refused")]:
        done = run(virga, "snapshot", tmp_path / name, tmp_path / "s")
        refused(done, 1, tmp_path / name, sentence, "is a virga with --control")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "other"))
        sock.listen()
        with Running(virga, "snapshot", tmp_path / "other", tmp_path / "s") as command:
            client, _ = sock.accept()
            client.sendall(b"220 smtp.example.org\r\n")
            assert command.process.wait(30) == 1
            assert "is not virga" in command.errors()
            client.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("victim", ["supervisor", "VM process"])
def test_writer_killed_at_random_moments(virga, tmp_path, victim):
    """`virga snapshot` says so; under the name is a whole snapshot or nothing."""
    chance = random.Random(victim)
    left_over = removed = whole = 0
    snapshot, left = tmp_path / "s", tmp_path / "s.tmp"
    for _ in range(KILLED_WRITERS // 2):
        control = tmp_path / "c"
        args = ["run", "--serial", "none", "--memory", "16M", "--control", control]
        with Running(virga, *args) as machine:
            wait_for(control.exists, what="the socket")
            # The one before may have left something; what is complete is never removed.
            if left.exists() and run(virga, "inspect", left).returncode == 0:
                refused(run(virga, "snapshot", control, snapshot), 1, left, "is in the way")
                shutil.rmtree(left)
            left_over += left.exists()
            with Running(virga, "snapshot", control, snapshot) as command:
                time.sleep(chance.random() * chance.choice([0.002, 0.014]))
                target = machine.process.pid
                if victim == "VM process":
                    target = (children(target) or [None])[0]
                if target:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(target, signal.SIGKILL)
                status = command.process.wait(30)
                said = command.errors()
            machine.process.wait(30)
            removed += machine.errors().count("left over from a snapshot whose writer died")
        assert status in (0, 1) and (status == 0 or "virga: " in said)
        assert status == 1 or snapshot.exists()
        if snapshot.exists():
            whole += 1
            verify(virga, snapshot)
            shutil.rmtree(snapshot)
        control.unlink(missing_ok=True)
    assert whole < KILLED_WRITERS // 2, "no writer was killed in time"
    assert removed <= left_over
    # What is not complete the next removes, and says so.
    shutil.rmtree(left, ignore_errors=True)
    left.mkdir()
    with Running(virga, "run", "--serial", "none", "--control", control) as machine:
        take_snapshot(virga, control, snapshot)
        assert machine.stop() == 0
        assert f"removed {left}, left over" in machine.errors()
    verify(virga, snapshot)
    assert not left.exists()


# --- /dev/kvm


def in_namespace(script, *words):
    """Runs a command where /dev is not what it is here."""
    return subprocess.run(
        [*mount_namespace(), "sh", "-ec", f'{script}\nexec "$@"', "sh", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


KVM = [
    ("mount -t tmpfs none /dev", "/dev/kvm: not there; load the module (modprobe kvm_intel"),
    ("mount --bind /dev/null /dev/kvm", "/dev/kvm: not KVM"),
    ("mount -t tmpfs none /dev; mkdir /dev/kvm", "/dev/kvm: Is a directory"),
]


@pytest.mark.parametrize("script, sentence", KVM, ids=["missing", "null", "directory"])
@pytest.mark.parametrize("command", ["run --serial none", "invoke T", "clone T -n 2"])
def test_kvm_is_missing(virga, template, script, sentence, command):
    words = [template if word == "T" else word for word in command.split()]
    done = in_namespace(script, virga, *words)
    assert (done.returncode, done.stdout) == (125, "")
    lines = done.stderr.splitlines()
    assert len(lines) == (2 if "-n" in words else 1)
    assert all(sentence in line for line in lines), done.stderr


@pytest.mark.parametrize("script, sentence", KVM[1:2], ids=["null"])
def test_host_without_kvm(virga, tmp_path, script, sentence):
    """The embedded guest's template cannot be made: the host's fault, not the configuration's."""
    done = in_namespace(script, virga, "serve", "--listen", f"unix:{tmp_path}/s",
                        "--store", tmp_path)
    refused(done, 1, "function builtin: ", sentence)


def test_kvm_is_not_allowed(virga):
    """As another user, with a copy that this user can reach."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        copy = shutil.copy(virga, place)
        script = f"touch {place}/kvm; chmod 600 {place}/kvm; mount --bind {place}/kvm /dev/kvm"
        done = in_namespace(script, *nobody, copy, "run", "--serial", "none")
    refused(done, 125, "/dev/kvm: permission denied; run as a member of the group", "usermod")


def test_nothing_needs_kvm_but_machines(virga, template):
    for words in (["inspect", "--verify", template], ["devices"], ["version"], ["run", "--help"],
                  ["run", "--print-config"]):
        done = in_namespace("mount -t tmpfs none /dev\nmknod /dev/null c 1 3", virga, *words)
        assert done.returncode == 0, done.stderr
