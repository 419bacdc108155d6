# SPDX-License-Identifier: Apache-2.0
"""Boots each tiny guest of tests/guest/ as a user would and looks at output and exit status."""

import re
import socket
import struct
import subprocess
import time

import pytest
from helpers import Running, elf32, guest, run, run_guest

pytestmark = pytest.mark.guest

# name, arguments, what else stands on stdout
SUCCESSFUL = [
    ("unclaimed", [], ""),
    ("pvh", ["--memory", "64M"], "map "),
    ("identity", [], "id "),
    ("interrupt", [], "level"),
    ("lapic_timer", [], ""),
    ("high_memory", ["--memory", "6G"], ""),
    ("virtio_rng", ["--device", "virtio_rng"], "slot 1\n"),
    ("virtio_rng", ["--device", "none", "--device", "virtio_rng", "--device", "serial",
                    "--device", "power", "--device", "debug_exit"], "slot 0\n"),
    # Pin 25 is the first beyond those of the chip that it is like; the last slot has pin 47.
    ("virtio_rng", [*("--device", "virtio_rng") * 9], "slot 9\n"),
    ("virtio_rng", [*("--device", "virtio_rng") * 31], "slot 31\n"),
]


@pytest.mark.parametrize("name, args, text", SUCCESSFUL, ids=[case[0] for case in SUCCESSFUL])
def test_success(virga, name, args, text):
    done = run_guest(virga, name, *args)
    assert done.stdout.endswith("SUCCESS\n"), done.stdout + done.stderr
    assert text in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    "args",
    [
        ["--vsock"],
        ["--device", "none", "--device", "virtio_rng", "--device", "serial", "--device", "debug_exit",
         "--vsock"],
    ],
    ids=["usual", "named"],
)  # fmt: skip
def test_guest_connects(virga, tmp_path, args):
    """The supervisor finds the device that asks by its number among all of the machine's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "v_5000"))
        listener.listen()
        done = run_guest(virga, "connect", *args, tmp_path / "v")
    assert done.stdout.endswith("SUCCESS\n"), done.stdout + done.stderr
    assert not (tmp_path / "v").exists()


# name, exit status, what stderr says
ENDS = [
    ("hello", 0, "powered off"),
    ("acpi_reset", 0, "reset"),
    ("keyboard_reset", 0, "reset"),
    ("debug_exit", 42, "42"),
    ("triple_fault", 126, "triple fault"),
    ("emulation", 126, "emulat"),
]


@pytest.mark.parametrize("name, status, sentence", ENDS, ids=[case[0] for case in ENDS])
def test_end(virga, name, status, sentence):
    done = run_guest(virga, name)
    assert done.stdout == "SUCCESS\n", done.stdout + done.stderr
    assert done.returncode == status
    assert sentence in done.stderr


@pytest.mark.parametrize("status", [0, 1, 124, 255])
def test_debug_exit_status(virga, status):
    assert run_guest(virga, "debug_exit", cmdline=f"status={status}").returncode == status


def registers(text):
    return {name: int(value, 16) for name, value in re.findall(r"(\w+) ([0-9a-f]{8,16})\b", text)}


def test_triple_fault_shows_the_registers_at_the_fault(virga):
    """Or none, where KVM has reset the CPU before it says so: then that is said."""
    end = run_guest(virga, "triple_fault").stderr
    shown = registers(end)
    if "KVM has reset the CPU" in end:
        assert not shown
        return
    image = guest("triple_fault").read_bytes()
    (table,) = struct.unpack_from("<Q", image, 32)
    offset, _, start = struct.unpack_from("<QQQ", image, table + 8)
    at = offset + shown["rip"] - start
    assert image[at : at + 2] == b"\x0f\x0b"  # ud2
    assert shown["cr0"] & 0x80000001 == 0x80000001  # paging, protected mode
    assert start < shown["rsp"] and start < shown["cr3"]


def test_emulation_failure_shows_the_registers_at_the_instruction(virga):
    shown = registers(run_guest(virga, "emulation").stderr)
    assert shown["rip"] == 0xE0000000 and shown["cr0"] & 0x80000001 == 0x80000001


def test_pvh_hands_over_command_line_and_map(virga):
    done = run_guest(virga, "pvh", "--memory", "4G", cmdline="one two=3")
    ram = [
        (int(start, 16), int(end, 16))
        for start, end, kind in re.findall(r"map (\w+) (\w+) (\d+)\n", done.stdout)
        if kind == "1"
    ]
    assert "cmdline [one two=3]\n" in done.stdout
    assert sum(end - start for start, end in ram) == (4 << 30) - 0x60000
    assert (0x100000, 0xC0000000) in ram and (1 << 32, 5 << 30) in ram


def test_pvh_enters_an_elf32(virga, tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf32(guest("pvh").read_bytes()))
    done = run(virga, "run", "--kernel", kernel, "--memory", "64M", "--cmdline", "of 32 bits")
    assert done.returncode == 0 and done.stdout.endswith("SUCCESS\n"), done
    assert "cmdline [of 32 bits]\n" in done.stdout


def test_pvh_hands_over_an_initrd(virga, tmp_path):
    (tmp_path / "initrd").write_bytes(b"x" * 12345)
    done = run_guest(virga, "pvh", "--initrd", tmp_path / "initrd")
    assert "module of 12345 bytes\n" in done.stdout


def test_identities_differ(virga):
    before = time.time_ns()
    outputs = [run_guest(virga, "identity").stdout for _ in range(3)]
    after = time.time_ns()
    for word in ("id", "seed"):
        assert len({re.search(rf"^{word} (\w+)$", out, re.MULTILINE)[1] for out in outputs}) == 3
    for out in outputs:
        assert before <= int(re.search(r"^wall (\d+)$", out, re.MULTILINE)[1]) <= after


def test_vector_registers_live(virga):
    done = run_guest(virga, "fpu", cmdline="ticks=5")
    ticks = "".join(f"tick {n}\n" for n in range(1, 6))
    assert done.stdout in (f"avx\n{ticks}SUCCESS\n", f"sse\n{ticks}SUCCESS\n")


def test_ticks_come_in_time(virga):
    start = time.monotonic()
    done = run_guest(virga, "tick", cmdline="period_ms=100 ticks=10")
    took = time.monotonic() - start
    assert done.stdout.split("\n")[9:11] == ["tick 10", "SUCCESS"]
    assert 1.0 <= took < 5.0


@pytest.mark.parametrize("how", ["poll", "interrupt"])
def test_serial_input(virga, how):
    args = ["run", "--kernel", guest("serial_echo"), "--serial", "stdio", "--cmdline", how]
    with Running(virga, *args, stdin=subprocess.PIPE) as machine:
        machine.expect("ready\n")
        machine.send(b"hello")
        machine.expect("hello")
        long = b"0123456789abcdef" * 64  # more than the FIFO holds
        machine.send(long)
        machine.expect(long.decode())
        machine.send(b"q")
        machine.expect("SUCCESS\n")
        assert machine.process.wait(10) == 0


def test_end_of_input_does_not_end_the_machine(virga):
    args = ["run", "--kernel", guest("tick"), "--serial", "stdio"]
    args += ["--cmdline", "period_ms=50 ticks=10"]
    with Running(virga, *args, stdin=subprocess.DEVNULL) as machine:
        assert "tick 10" in machine.expect("SUCCESS\n")


def test_reader_that_does_not_read_cannot_stop_the_machine(virga):
    """The pipe is full after 64 KiB; the guest goes on, and the machine obeys a signal."""
    args = ["run", "--kernel", guest("serial_flood"), "--serial", "stdio"]
    with Running(virga, *args, "--cmdline", "bytes=150000") as machine:
        assert machine.process.wait(60) == 0
    with Running(virga, *args) as machine:
        time.sleep(0.5)
        assert machine.stop() == 0


def test_serial_into_a_file(virga, tmp_path):
    args = ["--kernel", guest("serial_flood"), "--serial", f"file:{tmp_path}/out"]
    done = run(virga, "run", *args, "--cmdline", "bytes=6300")
    text = (tmp_path / "out").read_text()
    assert done.returncode == 0 and done.stdout == ""
    assert text.endswith("\nSUCCESS\n") and len(set(text.split("\n")[:-2])) == 1


@pytest.mark.parametrize("name", ["park", "spin"])
@pytest.mark.parametrize("number", [15, 2, 1], ids=["TERM", "INT", "HUP"])
def test_signal_ends_a_machine_that_waits_or_works(virga, name, number):
    with Running(virga, "run", "--kernel", guest(name), "--serial", "stdio") as machine:
        machine.expect("SUCCESS\n")
        time.sleep(0.05)
        assert machine.stop(number, 10) == 0


HOSTILE = {
    "hostile_rings": (
        "registers status queue_size queue_address index head loop buffer direction short "
        "indirect"
    ),
    "hostile_packets": "header credit flood give_up channel",
}
ATTACKS = [(name, attack) for name, attacks in HOSTILE.items() for attack in attacks.split()]


@pytest.mark.parametrize("name, attack", ATTACKS, ids=[attack for _, attack in ATTACKS])
def test_hostile_driver(virga, tmp_path, name, attack):
    done = run_guest(virga, name, "--vsock", tmp_path / "v", cmdline=attack, timeout=60)
    assert done.stdout == f"{attack}\nSUCCESS\n", done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("cpus", [1, 2])
def test_queue_that_the_device_fills(virga, cpus):
    """The device's own writes make chains available for ever: the machine still obeys."""
    args = ["run", "--kernel", guest("hostile_feed"), "--serial", "stdio", "--cpus", str(cpus)]
    with Running(virga, *args) as machine:
        machine.expect("feeding\n")
        time.sleep(0.2)
        assert machine.stop(timeout=9) == 0, machine.errors()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_driver_all_at_once(virga, name):
    done = run_guest(virga, name, timeout=110)
    assert done.stdout.split() == HOSTILE[name].split() + ["SUCCESS"], done.stderr
    assert len(done.stderr) < 20000  # a guest must not be able to fill the log


def test_log_reaches_no_terminal_raw(virga):
    """Control characters are spelled out, and each line says whose it is."""
    said = run_guest(virga, "hostile_log").stderr
    assert "virga: guest: \\x1b]0;owned\\x07\nvirga: guest: virga: forged sentence\n" in said
    assert all(line.startswith("virga: ") for line in said.splitlines())


def test_log_flood_is_bounded(virga):
    """A burst comes through, the rest is counted."""
    said = run_guest(virga, "hostile_log", cmdline="lines=5000").stderr
    lines = re.findall(r"^virga: guest: \d$", said, re.MULTILINE)
    dropped = re.search(r"^virga: guest: (\d+) lines were dropped$", said, re.MULTILINE)
    assert 98 <= len(lines) < 1000
    assert said.count("more than 100 lines a second") == 1
    assert len(lines) + int(dropped[1]) == 5000
