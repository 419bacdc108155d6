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
        ("park park virtio_vsock", "DEVICES: a device is named twice in 'park park virtio_vsock'"),
        ("", "DEVICES: name one at least; there are: serial "),
    ],
    ids=["unknown", "twice", "empty"],
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


@pytest.fixture(scope="module")
def plain(root):
    """virga without what the function host needs."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    words = ["make", "B=build/plain", "DEVICES=serial debug_exit power", "build/plain/virga.debug"]
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "build/plain/virga.debug"


def run_plain(plain, *words):
    return subprocess.run(
        [plain, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )


def test_plain_vmm_runs_a_guest(plain, root):
    symbols = subprocess.run(["nm", plain], capture_output=True, text=True, check=True).stdout
    assert "virtio_mmio_create" not in symbols and "vsock_unix_accept" not in symbols
    done = run_plain(plain, "run", "--kernel", root / "build/tests/guest/hello.elf")
    assert (done.returncode, done.stdout) == (0, "SUCCESS\n"), done.stderr


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        (["run"], 125, "the embedded guest, which is booted without --kernel, needs"),
        (["clone", "x", "--request", "hi"], 125, "clone needs the function channel"),
        (["invoke", "x"], 125, "invoke needs the function channel"),
        (["template", "build", "x"], 2, "template build needs the function channel"),
        (["serve"], 2, "serve needs the function channel"),
        (["run", "--device", "park"], 125, "device park"),
    ],
    ids=["run", "clone", "invoke", "template", "serve", "device"],
)
def test_plain_vmm_says_what_it_lacks(plain, words, status, sentence):
    done = run_plain(plain, *words)
    assert done.returncode == status
    assert sentence in done.stderr
    if "--device" in words:
        assert "device park: this virga was built without it; build with park in DEVICES" in done.stderr
    else:
        lacks = "virtio_vsock and park" if words[0] in ("run", "template") else "virtio_vsock"
        assert f"this virga was built without {lacks}; build with {lacks} in DEVICES" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "comment, sentence",
    [
        ("syscalls: getrandm - a word that is none", "no system call: 'getrandm'"),
        ("syscalls everywhere: getrandom - in no role", "no role: 'everywhere'"),
        ("syscalls: getrandom", "not of the form"),
        ("syscalls supervised: acct - taken", None),
    ],
    ids=["call", "role", "form", "right"],
)
def test_filter_takes_what_a_device_needs(root, virga, tmp_path, comment, sentence):
    device = tmp_path / "device.c"
    device.write_text(f"/*\n * {comment}\n */\n")
    words = [root / "build/filter_gen", device]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if sentence:
        assert done.returncode != 0
        assert sentence in done.stderr and str(device) in done.stderr
        return
    assert done.returncode == 0
    acct = "0x000000a3"  # the number of acct(2), which stands in the filter of that role
    roles = done.stdout.split("confine_filter_")[1:]
    assert [acct in role for role in roles] == [role.startswith("supervised") for role in roles]


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


@pytest.mark.parametrize("name", ["arch/x86_64/test_oracle", "arch/x86_64/test_two_vcpus",
                                  "arch/x86_64/test_eoi", "arch/test_equality"])
def test_unit_test_without_its_guests_fails_and_does_not_crash(root, tmp_path, name):
    """Run alone, as docs/contributing.md says, before the guests of the tests are made."""
    program = root / "build/tests/unit" / name
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    # cmocka catches the signal of a crash.
    assert done.returncode > 0 and ".elf" in said and "exception" not in said, said
