# SPDX-License-Identifier: Apache-2.0
"""A template that an older virga made starts under this one, whatever more it was built with.

The older one is built here from its commit: needs the repository's history, and minutes."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/system"))
from helpers import run  # noqa: E402

# The last commits whose snapshots have no list of devices, and a list without their options.
OLDS = {"no list": "f4619ae", "no options": "1feed00"}
SETS = {
    "default": None,
    "full": "serial debug_exit power park virtio_vsock virtio_rng",
    "as it was": "serial debug_exit power park virtio_vsock",
}

pytestmark = pytest.mark.timeout(600)


def make(folder, *words):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-C", folder, *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=OLDS.values(), ids=OLDS)
def old_virga(request, tmp_path_factory):
    """virga as it was at that commit."""
    tree = tmp_path_factory.mktemp("old") / "virga"
    words = ["git", "-C", ROOT, "worktree"]
    subprocess.run([*words, "add", "--detach", tree, request.param], check=True, capture_output=True)
    try:
        (tree / "build").mkdir()
        (tree / "build/deps").symlink_to(ROOT / "build/deps")
        make(tree, "virga")
        yield tree / "virga"
    finally:
        subprocess.run([*words, "remove", "--force", tree], check=True, capture_output=True)


@pytest.fixture(scope="module")
def old_template(old_virga, tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "old"
    done = run(old_virga, "template", "build", path, "--warm", "2")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module", params=SETS)
def program(request, virga):
    """This virga, built with a set of devices."""
    if SETS[request.param] is None:
        return virga
    folder = f"build/long-{request.param.replace(' ', '-')}"
    make(ROOT, f"B={folder}", f"DEVICES={SETS[request.param]}", f"{folder}/virga.debug")
    return ROOT / folder / "virga.debug"


def test_it_starts(program, old_template):
    done = run(program, "invoke", old_template, "--data", "echo hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    done = run(program, "clone", old_template, "-n", "3", "--request", "echo %i")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"clone {i}: {i}" for i in range(3)]


def test_it_is_taken_for_what_it_is(program, old_template):
    done = run(program, "inspect", "--verify", old_template)
    assert done.returncode == 0, done.stderr
    assert "devices   serial debug_exit power park virtio_vsock\n" in done.stdout


def test_a_build_without_one_of_its_devices_says_so(old_template):
    folder = "build/long-less"
    make(ROOT, f"B={folder}", "DEVICES=power park virtio_vsock", f"{folder}/virga.debug")
    done = run(ROOT / folder / "virga.debug", "invoke", old_template)
    assert done.returncode == 125
    assert "has device serial (0), this virga was built without it" in done.stderr
    assert 'build with DEVICES="serial debug_exit power park virtio_vsock"' in done.stderr
