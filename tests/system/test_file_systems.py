# SPDX-License-Identifier: Apache-2.0
"""
Stores on file systems that cannot do all of renameat2(2), or keep what is unlinked while it is open:
FUSE, and the lower layer of an overlay.
"""

import contextlib
import os

import pytest

from helpers import Running, run, wait_for
from templates import (
    SMALL,
    Kept,
    build,
    fuse,
    inspect,
    invoke,
    mounted,
    refused,
    request_file,
    take_snapshot,
    verify,
)

pytestmark = pytest.mark.system


@contextlib.contextmanager
def overlay(tmp_path):
    """What is in tmp_path/lower, as a lower layer; in memory, since an overlay is no upper layer."""
    with mounted(tmp_path / "disk", "mount", "-t", "tmpfs", "none") as disk:
        (disk / "upper").mkdir()
        (disk / "work").mkdir()
        layers = f"lowerdir={tmp_path / 'lower'},upperdir={disk / 'upper'},workdir={disk / 'work'}"
        with mounted(tmp_path / "overlay", "mount", "-t", "overlay", "-o", layers, "none") as folder:
            yield folder


def version(virga, template):
    return inspect(virga, template)["version"]


def good(virga, *words):
    """A command that says nothing, since all is well."""
    done = run(virga, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


def entries(folder):
    return sorted(os.listdir(folder))


FILES = ["config", "memory", "state", "template", "working-set"]


def test_fuse(virga, tmp_path):
    with fuse(tmp_path) as store:
        template = build(virga, store, name="t")
        assert entries(store) == ["t"] and entries(template) == FILES
        old = version(virga, template)
        good(virga, "template", "build", template, *SMALL)
        assert version(virga, template) != old
        good(virga, "template", "export", template, store / "t.zst")
        new = version(virga, template)
        good(virga, "template", "build", template, *SMALL)
        good(virga, "template", "import", store / "t.zst", template)
        assert version(virga, template) == new
        refused(virga, 2, "exists already", "template", "export", template, store / "t.zst")
        verify(virga, template)
        assert invoke(virga, template, "echo x")[:2] == (0, "x")
        assert entries(store) == ["t", "t.zst"] and entries(template) == FILES
        good(virga, "template", "rm", template)
        assert entries(store) == ["t.zst"]


def test_fuse_and_machines_that_run(virga, tmp_path):
    """What they use stays, hidden, and is in nobody's way."""
    with fuse(tmp_path) as store:
        template = build(virga, store, name="t")
        with Kept(virga, template, 1, "echo x") as clone:
            for _ in range(2):
                done = run(virga, "template", "build", template, *SMALL)
                assert done.returncode == 0 and "t.old1.tmp: stays" in done.stderr, done.stderr
                verify(virga, template)
            assert entries(store) == ["t", "t.old1.tmp"] and entries(template) == FILES
            assert len(entries(store / "t.old1.tmp")) == 1
            with Kept(virga, template, 1, "echo x") as other:
                done = run(virga, "template", "rm", template)
                assert done.returncode == 0 and "t.tmp: stays" in done.stderr, done.stderr
                assert run(virga, "template", "build", template, *SMALL).returncode == 0
                assert invoke(virga, template, "echo x")[:2] == (0, "x")
                assert other.stop() == 0
            assert clone.stop() == 0
        # bindfs learns of the last close a moment later.
        wait_for(lambda: run(virga, "template", "check", "--store", store).returncode == 0
                 and entries(store) == ["t"] and entries(template) == FILES)


def test_fuse_and_a_snapshot(virga, tmp_path):
    with fuse(tmp_path) as store:
        words = ["run", "--serial", "none", "--memory", "16M", "--control", store / "c"]
        with Running(virga, *words) as machine:
            take_snapshot(virga, store / "c", store / "s")
            verify(virga, store / "s")
            refused(virga, 2, "exists already", "snapshot", store / "c", store / "s")
            assert machine.stop() == 0
        assert entries(store) == ["s"]


def test_fuse_and_what_fails(virga, tmp_path):
    """No directory stays, though its files were open when it failed."""
    with fuse(tmp_path) as store:
        bad = request_file(tmp_path, "sum 100000")
        refused(virga, 1, "answered with an error", "template", "build", store / "t", *SMALL,
                "--warm-request", bad)
        assert entries(store) == []
        (tmp_path / "archive").write_bytes(b"no archive")
        done = run(virga, "template", "import", tmp_path / "archive", store / "t")
        assert done.returncode == 1
        assert entries(store) == []


def test_lower_layer(virga, tmp_path):
    lower = tmp_path / "lower"
    lower.mkdir()
    for name in ("removed", "built", "imported"):
        build(virga, lower, name=name)
    with overlay(tmp_path) as store:
        old = {name: version(virga, store / name) for name in entries(store)}
        good(virga, "template", "rm", store / "removed")
        good(virga, "template", "export", lower / "removed", store / "archive")
        with Kept(virga, store / "built", 1, "echo x") as clone:
            for _ in range(2):
                good(virga, "template", "build", store / "built", *SMALL)
            assert clone.stop() == 0
        good(virga, "template", "import", store / "archive", store / "imported")
        assert version(virga, store / "imported") == old["removed"]
        assert version(virga, store / "built") != old["built"]
        for name in ("built", "imported"):
            verify(virga, store / name)
            assert invoke(virga, store / name, "echo x")[:2] == (0, "x")
            assert entries(store / name) == FILES
        assert entries(store) == ["archive", "built", "imported"]
        good(virga, "template", "build", store / "removed", *SMALL)
        verify(virga, store / "removed")
