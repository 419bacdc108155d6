# SPDX-License-Identifier: Apache-2.0
"""A template that is built again: at every moment its name is one whole template, old or new."""

import collections
import ctypes
import json
import os
import shutil
import struct
import threading
import time

import pytest

from helpers import Running, connect_vsock, run, wait_for
from templates import (
    SMALL,
    Killer,
    build,
    dirty_sum,
    inspect,
    invoke,
    make_template,
    refused,
    request_file,
    small_disk,
    verify,
)

pytestmark = pytest.mark.system


def version(virga, template):
    return inspect(virga, template)["version"]


def build_again(virga, template, *args):
    done = run(virga, "template", "build", template, *SMALL, *args)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


# --- What a template says of itself ---


def test_facts(virga, tmp_path):
    begin = time.time()
    template = build(virga, tmp_path, "dirty 9", "--warm", "3", "--cmdline", "pages=70")
    end = time.time()
    said = inspect(virga, template)
    facts = said["template"]
    assert (facts["warm_requests"], facts["tried_requests"]) == (3, 1)
    assert int(begin) <= facts["built_s"] <= end
    assert 0 < facts["ready_us"] < facts["build_us"] < (end - begin) * 1e6
    assert said["guest"] == "embedded" and len(said["version"]) == 12
    assert {"generation_id", "seed", "wall_clock"} <= set(said["anew"])
    text = run(virga, "inspect", template).stdout
    for line in (f"version   {said['version']}", 'guest     embedded, cmdline "pages=70"',
                 f"ready     {facts['ready_us'] / 1000:.6g} ms", "then 3 warm-up requests",
                 "requests tried: 1", "anew      in each clone: generation_id, seed",
                 f"digest    {said['memory_digest']}", "built     20"):
        assert line in text, text
    listed = run(virga, "template", "list", "--store", tmp_path).stdout.splitlines()
    assert listed[0].split()[:4] == ["template", "version", "memory", "ready"]
    assert listed[1].split()[:2] == ["template", said["version"]] and " ms " in listed[1]


def test_a_snapshot_is_no_template(virga, tmp_path):
    snapshot = make_template(virga, tmp_path, "--memory", "16M", name="plain")
    assert inspect(virga, snapshot)["template"] is None
    assert "ready " not in run(virga, "inspect", snapshot).stdout
    done = run(virga, "template", "list", "--store", tmp_path, "--json")
    assert json.loads(done.stdout)["ready_us"] is None


def test_damaged_facts(virga, tmp_path):
    """A start does not look at them; who asks for them is told."""
    template, other = build(virga, tmp_path), build(virga, tmp_path, name="other")
    file = template / "template"
    good = file.read_bytes()
    commands = (["inspect", template], ["template", "check", template],
                ["template", "list", "--store", tmp_path],
                ["template", "export", template, tmp_path / "x.zst"])
    for bad, sentence in (
            (good.replace(b'"ready_us": ', b'"ready_us": 1'), "template: is damaged"),
            (b"", "template: is damaged"), (b"\0" * 5000, "more than the 4096"),
            ((other / "template").read_bytes(), "belongs to another snapshot")):
        file.write_bytes(bad)
        for words in commands:
            refused(virga, 2 if words[0] == "inspect" else 1, sentence, *words)
        assert invoke(virga, template, "echo x") == (0, "x", "")
    file.unlink()
    os.mkfifo(file)
    refused(virga, 2, "not a regular file", "inspect", template)
    assert invoke(virga, template, "echo x") == (0, "x", "")
    file.unlink()
    assert inspect(virga, template)["template"] is None
    assert not list(tmp_path.glob("x.zst*"))


def test_inspect_prints_nothing_that_a_terminal_obeys(virga, tmp_path):
    template = build(virga, tmp_path, None, "--cmdline", "\x1b[2J\u009b2J")
    text = run(virga, "inspect", template).stdout
    assert 'cmdline "\\u001b[2j\\u009b2j"' in text.lower()
    assert "\x1b" not in text and "\u009b" not in text


# --- Building again ---


def test_replaces(virga, tmp_path):
    template = build(virga, tmp_path, "dirty 5")
    old, old_number = version(virga, template), template.stat().st_ino
    assert build_again(virga, template, "--warm", "2") == ""
    assert version(virga, template) != old and template.stat().st_ino != old_number
    assert inspect(virga, template)["template"]["warm_requests"] == 2
    assert os.listdir(tmp_path) and not list(tmp_path.glob("*.tmp"))
    assert "unfinished" not in os.listdir(template)
    verify(virga, template)


def test_clones_of_the_old_one_go_on(virga, tmp_path):
    template = build(virga, tmp_path, "dirty 3", "--cmdline", "pages=300")
    args = ["clone", template, "--request", "dirty 3", "--keep", "--vsock", tmp_path / "v"]
    with Running(virga, *args) as machine:
        machine.expect(dirty_sum(3))
        build_again(virga, template)
        # What it has not touched so far comes from a file that has no name any more.
        with connect_vsock(tmp_path / "v.0", 7) as sock:
            sock.sendall(b"still here\n")
            assert sock.recv(100) == b"still here\n"
        assert invoke(virga, template, "dirty 3")[:2] == (0, dirty_sum(3))
        assert machine.stop() == 0


def test_starts_never_fail_meanwhile(virga, tmp_path):
    template = build(virga, tmp_path)
    versions, failed = set(), []

    def builder():
        for _ in range(8):
            done = run(virga, "template", "build", template, *SMALL)
            if done.returncode:
                failed.append(done.stderr)

    thread = threading.Thread(target=builder)
    thread.start()
    count = 0
    while thread.is_alive():
        assert invoke(virga, template, "echo x") == (0, "x", "")
        versions.add(version(virga, template))
        count += 1
    thread.join()
    assert not failed and count > 8 and len(versions) > 4


class Opens:
    """Counts how often each file of a folder is opened."""

    OPEN, CLOSE = 0x20, 0x18  # IN_OPEN, IN_CLOSE: between two of one file, or they would be one

    def __init__(self, folder):
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self.fd, bytes(folder), self.OPEN | self.CLOSE) > 0

    def count(self):
        data, counts = os.read(self.fd, 1 << 16), collections.Counter()
        os.close(self.fd)
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            name, data = data[16:16 + size].rstrip(b"\0").decode(), data[16 + size:]
            counts[name] += bool(name and mask & self.OPEN)
        return +counts


@pytest.mark.parametrize("command", ["restore", "clone", "invoke", "inspect"])
def test_each_file_is_opened_once(virga, tmp_path, command):
    """A template may be replaced at any moment: what was opened and checked is what is used."""
    template = build(virga, tmp_path)
    opens = Opens(template)
    control = tmp_path / "control"
    if command in ("restore", "clone"):
        with Running(virga, command, template, "--control", control) as machine:
            wait_for(lambda: list(tmp_path.glob("control*")))
            assert machine.stop() == 0
    else:
        assert run(virga, command, template).returncode in (0, 1)
    counts = opens.count()
    counts.pop("template", None)
    assert counts == dict.fromkeys(("config", "state", "memory", "working-set"), 1)


def test_a_snapshot_never_replaces(virga, tmp_path):
    template = build(virga, tmp_path)
    old = version(virga, template)
    control = tmp_path / "control"
    with Running(virga, "run", "--serial", "none", "--control", control) as machine:
        wait_for(control.exists)
        refused(virga, 2, "exists already", "snapshot", control, template)
        assert machine.stop() == 0
    assert version(virga, template) == old


def test_what_is_no_template_is_not_replaced(virga, tmp_path):
    template = build(virga, tmp_path)
    (template / "letter").write_text("dear")
    words = ["template", "build"]
    refused(virga, 2, "holds 'letter', which is no part of a snapshot", *words, template, *SMALL)
    assert (template / "letter").read_text() == "dear"
    (template / "letter").unlink()
    (tmp_path / "link").symlink_to(template)
    refused(virga, 2, "is no directory", *words, tmp_path / "link", *SMALL)
    (tmp_path / "file").write_text("dear")
    refused(virga, 2, "is no directory", *words, tmp_path / "file", *SMALL)
    assert invoke(virga, template, "echo x")[:2] == (0, "x")
    # One that is damaged is what a build is there for.
    (template / "memory").write_bytes(b"")
    (template / "working-set").write_bytes(b"")
    build_again(virga, template)
    verify(virga, template)


def test_a_build_that_fails_changes_nothing(virga, tmp_path):
    template = build(virga, tmp_path)
    old = version(virga, template)
    words = ["template", "build", template, *SMALL]
    bad = request_file(tmp_path, "sum 100000")
    refused(virga, 1, "answered with an error", *words, "--warm-request", bad)
    refused(virga, 1, "cannot open", *words, "--kernel", tmp_path / "nothing")
    assert version(virga, template) == old and not list(tmp_path.glob("*.tmp"))
    assert "unfinished" not in os.listdir(template)


def test_two_builders(virga, tmp_path):
    template = build(virga, tmp_path)
    old = version(virga, template)
    slow = request_file(tmp_path, "spin 700000")
    words = ["template", "build", template, *SMALL]
    with Running(virga, *words, "--warm", "1", "--warm-request", slow) as first:
        wait_for((tmp_path / "template.tmp").exists)
        refused(virga, 2, "another snapshot is being written", *words)
        refused(virga, 1, "another snapshot is being written", "template", "rm", template)
        assert version(virga, template) == old
        assert first.process.wait(30) == 0, first.errors()
    assert version(virga, template) != old


def test_full_disk(virga, tmp_path):
    """There is room for one template and a half."""
    with small_disk(tmp_path / "disk", "600k") as disk:
        template = build(virga, disk)
        old = version(virga, template)
        for _ in range(3):
            refused(virga, 1, "No space left on device", "template", "build", template, *SMALL)
            assert os.listdir(disk) == ["template"]
            assert version(virga, template) == old
            assert invoke(virga, template, "echo x")[:2] == (0, "x")
            assert sorted(os.listdir(template)) == [
                "config", "memory", "state", "template", "working-set"]


def test_killed_at_any_moment(virga, tmp_path):
    template = build(virga, tmp_path, "dirty 50", name="t")
    words = ["template", "build", template, *SMALL, "--warm-request", tmp_path / "request"]
    old, seen, killer = version(virga, template), set(), Killer(virga, 11)
    for _ in range(50):
        before = old
        seen.add("new" if killer.kill(words, lambda: version(virga, template) != before) else "old")
        seen.add("left-over" if (tmp_path / "t.tmp").exists() else "nothing")
        verify(virga, template)
        assert invoke(virga, template, "dirty 50")[:2] == (0, dirty_sum(50))
        old = version(virga, template)
    assert {"old", "new", "left-over"} <= seen
    # The machine of a dead builder may hold the lock a moment longer.
    wait_for(lambda: run(virga, "template", "build", template, *SMALL).returncode == 0)
    assert version(virga, template) != old and not (tmp_path / "t.tmp").exists()


# --- What is left over ---


@pytest.mark.parametrize("command", ["build", "check", "check all", "rm"])
def test_left_over(virga, tmp_path, command):
    """A builder died after the exchange: the old one, marked, has the name with .tmp."""
    template = build(virga, tmp_path)
    left = tmp_path / "template.tmp"
    shutil.copytree(template, left)
    (left / "unfinished").touch()
    (template / "unfinished").touch()
    assert invoke(virga, template, "echo x")[:2] == (0, "x")
    listed = run(virga, "template", "list", "--store", tmp_path)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 2)
    words = {"build": [template, *SMALL], "check": [template], "rm": [template],
             "check all": ["--store", tmp_path]}[command]
    done = run(virga, "template", command.split()[0], *words)
    assert done.returncode == 0 and f"removed {left}, left over" in done.stderr, done.stderr
    assert not left.exists() and template.exists() == (command != "rm")
