# SPDX-License-Identifier: Apache-2.0
"""The build itself: its product, its device sets, its checkers."""

import os
import re
import subprocess

import pytest


@pytest.fixture
def make(root):
    """Runs make with the words given; returns (status, all output)."""

    def run(*words):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        done = subprocess.run(
            ["make", *words],
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def readelf(option, path):
    return subprocess.run(
        ["readelf", "-W", option, path], capture_output=True, text=True, check=True
    ).stdout


def test_product_is_a_hardened_static_pie(virga):
    header, segments = readelf("-h", virga), readelf("-l", virga)
    assert re.search(r"Type:\s+DYN", header)
    assert "INTERP" not in segments
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK.* RW +0x", segments)
    assert not re.search(r"LOAD.* RWE ", segments)
    dynamic = readelf("-d", virga)
    assert "NEEDED" not in dynamic and "TEXTREL" not in dynamic and "NOW" in dynamic


def test_symbols_are_kept_beside_the_stripped_product(root, virga):
    assert "no symbols" in subprocess.run(
        ["nm", virga], capture_output=True, text=True, check=True
    ).stderr
    ids = {re.search(r"Build ID: (\w+)", readelf("-n", path)).group(1)
           for path in (virga, root / "build/virga.debug")}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "devices, sentence",
    [
        ("park virtio_vsock foo", "DEVICES: 'foo' is not a device; there are: serial "),
        ("park serial", "DEVICES: virtio_vsock is required (the function channel runs over it)"),
        ("virtio_vsock", "DEVICES: park is required (the embedded guest waits in it)"),
        ("park park virtio_vsock", "DEVICES: a device is named twice in 'park park virtio_vsock'"),
        ("", "DEVICES: virtio_vsock is required"),
    ],
    ids=["unknown", "no virtio_vsock", "no park", "twice", "empty"],
)
def test_illegal_device_set_stops_with_a_sentence(make, devices, sentence):
    status, output = make(f"DEVICES={devices}", "virga")
    assert status == 2
    assert sentence in output
    assert len(output.splitlines()) == 1


def test_smaller_device_set_makes_a_smaller_program(make, root, virga):
    status, output = make("B=build/small", "DEVICES=virtio_vsock park", "build/small/virga.debug")
    assert status == 0, output
    shown = subprocess.run(
        [root / "build/small/virga.debug", "devices"], capture_output=True, text=True, check=True
    ).stdout
    assert "park" in shown and "virtio_vsock" in shown
    assert "serial" not in shown and "debug_exit" not in shown
    symbols = subprocess.run(
        ["nm", root / "build/small/virga.debug"], capture_output=True, text=True, check=True
    ).stdout
    assert "park_class" in symbols and "serial_class" not in symbols


def test_nothing_is_rebuilt_when_nothing_changed(make):
    status, output = make("-q", "virga")
    assert status == 0, output


def test_size_adds_up(make):
    status, output = make("size")
    assert status == 0, output
    rows = dict(re.findall(r"^(\S.*?) +(?:\d+ +){4}(\d+)$", output, re.M))
    parts = [int(n) for name, n in rows.items() if not name.endswith(".o") and name != "all"]
    assert sum(parts) == int(rows["all"]) > 0


def test_install(make, tmp_path):
    status, output = make(f"DESTDIR={tmp_path}", "PREFIX=/usr", "install")
    assert status == 0, output
    assert os.access(tmp_path / "usr/bin/virga", os.X_OK)
    assert (tmp_path / "usr/share/man/man1/virga.1").exists()


@pytest.mark.timeout(600)
def test_lint(make):
    status, output = make("lint")
    assert status == 0, output


@pytest.mark.timeout(900)
def test_asan(make):
    status, output = make("asan")
    assert status == 0, output
