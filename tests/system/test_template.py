# SPDX-License-Identifier: Apache-2.0
"""`virga template`: building, what a working set says and does, the store, and what goes wrong."""

import json
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from helpers import guest, run
from templates import (
    IDENTITY,
    PAGE,
    SMALL,
    Kept,
    Running,
    build,
    children,
    dirty_sum,
    initial_sum,
    inspect,
    invoke,
    mount_namespace,
    refused,
    request_file,
    run_bytes,
    take_snapshot,
    verify,
    xxh3,
)

pytestmark = pytest.mark.system

HEADER = struct.Struct("<QIIIIQQ")
RUN = struct.Struct("<IIII")


def working_set(template):
    """(pages written, pages read) as sets, and the list of (rank, page) of the runs."""
    data = (template / "working-set").read_bytes()
    _, version, page_size, count, trials, _, bound = HEADER.unpack_from(data)
    assert (version, page_size, trials) == (1, PAGE, 2)
    assert bound == struct.unpack("<Q", (template / "state").read_bytes()[-8:])[0]
    assert len(data) == HEADER.size + count * RUN.size + 8
    pages, ranks = (set(), set()), []
    for i in range(count):
        page, length, rank, flags = RUN.unpack_from(data, HEADER.size + i * RUN.size)
        pages[0 if flags else 1].update(range(page, page + length))
        ranks.append((rank, page))
    return *pages, ranks


def changed_pages(one, other):
    a, b = ((folder / "memory").read_bytes() for folder in (one, other))
    assert len(a) == len(b)
    return {i // PAGE for i in range(0, len(a), PAGE) if a[i:i + PAGE] != b[i:i + PAGE]}


def snapshot_after(virga, template, folder, text, name):
    """A snapshot of a clone that has answered."""
    control = folder / f"{name}.control"
    args = ["clone", template, "--request", text, "--keep", "--control", f"{control}"]
    with Running(virga, *args) as machine:
        machine.expect("\n")
        take_snapshot(virga, f"{control}.0", folder / name)
        machine.stop()
    return folder / name


# --- What a build makes ---


def test_build(virga, tmp_path):
    template = build(virga, tmp_path)
    assert sorted(os.listdir(template)) == ["config", "memory", "state", "template", "working-set"]
    assert os.listdir(tmp_path) == ["template"]
    assert stat.S_IMODE((template / "working-set").stat().st_mode) == 0o600
    verify(virga, template)
    assert invoke(virga, template, "echo hello")[:2] == (0, "hello")
    text = run(virga, "inspect", template).stdout
    assert "working-set" in text and "2 trial clones" in text
    facts = inspect(virga, template)["working_set"]
    written, read, _ = working_set(template)
    assert (facts["written_pages"], facts["read_pages"]) == (len(written), len(read))
    assert facts["trials"] == 2


@pytest.mark.parametrize("pages", [1, 64, 500])
def test_recorder_sees_what_is_written(virga, tmp_path, pages):
    """Every page that a clone has changed when it has answered is in the set, as written."""
    text = f"dirty {pages}"
    template = build(virga, tmp_path, text)
    assert invoke(virga, template, text)[:2] == (0, dirty_sum(pages))
    after = snapshot_after(virga, template, tmp_path, text, "after")
    written, read, ranks = working_set(template)
    changed = changed_pages(template, after)
    assert len(changed) >= pages
    assert changed <= written, sorted(changed - written)
    assert IDENTITY // PAGE in written
    # Nothing is made up: what a request does not need is not there.
    assert len(written) <= len(changed) + 16 and len(read) < 64
    assert sorted(rank for rank, _ in ranks)[0] == 0


def test_recorder_sees_what_is_read(virga, tmp_path):
    template = build(virga, tmp_path, "sum 300", "--cmdline", "pages=300")
    written, read, _ = working_set(template)
    assert len(written) < 16 and 300 <= len(read | written) < 364
    assert invoke(virga, template, "sum 300")[:2] == (0, initial_sum(300))


def test_requests_add_up(virga, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("dirty 10")
    two.write_text("sum 200")
    words = ["--cmdline", "pages=200", "--warm-request", one, "--warm-request", two]
    done = run(virga, "template", "build", tmp_path / "t", *SMALL, *words)
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "t" / "working-set").read_bytes()
    assert HEADER.unpack_from(data)[4] == 4
    facts = inspect(virga, tmp_path / "t")["working_set"]
    assert facts["written_pages"] >= 10 and facts["read_pages"] >= 200


def test_a_clone_is_the_same_without(virga, tmp_path):
    """A working set changes when pages come, not what is in them."""
    template = build(virga, tmp_path, "dirty 40")
    plain = tmp_path / "plain"
    shutil.copytree(template, plain)
    (plain / "working-set").unlink()
    with_set = snapshot_after(virga, template, tmp_path, "dirty 40", "with")
    without = snapshot_after(virga, plain, tmp_path, "dirty 40", "without")
    assert changed_pages(with_set, without) <= {IDENTITY // PAGE}
    verify(virga, with_set)


def test_warm_requests(virga, tmp_path):
    """The template has served them: what `dirty` wrote is in its memory."""
    template = build(virga, tmp_path, "dirty 50", "--warm", "3")
    cold = build(virga, tmp_path, "dirty 50", name="cold")
    assert len(changed_pages(template, cold)) >= 50
    assert invoke(virga, template, "echo x")[:2] == (0, "x")


def test_long_request(virga, tmp_path):
    text = "echo " + "x" * 300000
    template = build(virga, tmp_path, text, "--warm", "2")
    assert invoke(virga, template, f"@{tmp_path / 'request'}")[:2] == (0, text[5:])


def test_long_configuration(virga, tmp_path):
    """Longer than any message between processes; a template and a snapshot hold it whole."""
    cmdline = "pages=256 " + "x" * 40000
    template = build(virga, tmp_path, None, "--cmdline", cmdline)
    assert invoke(virga, template, "initial")[0] == 0
    control = tmp_path / "control"
    with Running(virga, "run", "--serial", "none", "--cmdline", cmdline, "--control", control):
        snapshot = take_snapshot(virga, control, tmp_path / "snapshot")
    for folder in (template, snapshot):
        assert json.loads((folder / "config").read_text())["cmdline"] == cmdline
        assert inspect(virga, folder)


def test_restore_and_timing(virga, tmp_path):
    template = build(virga, tmp_path, "dirty 20")
    done = run(virga, "invoke", template, "--data", "dirty 20", "--timing")
    stages = dict(line.split() for line in done.stderr.splitlines())
    assert int(stages["state"]) <= int(stages["populate"]) <= int(stages["first_exit"])


def drop_from_cache(folder):
    """What is on disk only, as after a long time or a restart of the host. False on a tmpfs."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(folder / "config", "rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False


@pytest.fixture(name="disk")
def folder_on_a_disk():
    """/tmp may be in memory, where nothing is ever cold."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="virga-disk.") as folder:
        yield Path(folder)


@pytest.mark.parametrize("with_set", [True, False])
def test_cold(virga, disk, with_set):
    """Files that are not in memory: the same answer, and it is said; afterwards they are."""
    template = build(virga, disk, "dirty 20")
    if not with_set:
        (template / "working-set").unlink()
    if not drop_from_cache(template):
        pytest.skip("needs a disk: /var/tmp is in memory")
    for cold in (True, False):
        done = run(virga, "invoke", template, "--data", "dirty 20", "--timing")
        stages = dict(line.split() for line in done.stderr.splitlines())
        assert (done.returncode, done.stdout) == (0, dirty_sum(20))
        assert ("cold" in stages) == cold
        if cold:
            assert int(stages["memory"]) <= int(stages["cold"]) <= int(stages["kvm"])
    assert drop_from_cache(template)
    done = run(virga, "clone", template, "-n", "5", "--request", "dirty 20")
    assert done.returncode == 0 and done.stdout.count(dirty_sum(20)) == 5


def test_by_pagemap(virga, tmp_path):
    """Without userfaultfd the set is what trial clones left behind, which is said."""
    os.chmod(tmp_path, 0o777)
    text = request_file(tmp_path, "dirty 30")
    program = shutil.copy(virga, tmp_path / "virga")
    words = [*mount_namespace(), "sh", "-c",
             'mount --bind /dev/null /dev/userfaultfd 2>/dev/null; exec "$@"', "-",
             "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    done = subprocess.run([*words, program, "template", "build", tmp_path / "t", *SMALL,
                           "--warm-request", text], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "userfaultfd is not permitted" in done.stderr
    after = snapshot_after(virga, tmp_path / "t", tmp_path, "dirty 30", "after")
    written, _, _ = working_set(tmp_path / "t")
    assert changed_pages(tmp_path / "t", after) <= written


# --- What goes wrong ---


def test_damaged(virga, tmp_path):
    template = build(virga, tmp_path)
    file = template / "working-set"
    good = file.read_bytes()
    for at in range(0, len(good), 5):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1:])
        refused(virga, 125, "working-set", "invoke", template, "--data", "echo x")
    file.write_bytes(good[:-1])
    refused(virga, 125, "is damaged", "invoke", template)
    refused(virga, 2, "is damaged", "inspect", template)
    file.write_bytes(b"")
    refused(virga, 125, "is damaged: it is too short", "invoke", template)
    file.unlink()
    assert invoke(virga, template, "echo x")[:2] == (0, "x")


def test_of_another(virga, tmp_path):
    one, two = build(virga, tmp_path, name="one"), build(virga, tmp_path, "dirty 9", name="two")
    shutil.copy(two / "working-set", one / "working-set")
    refused(virga, 125, "belongs to another snapshot", "invoke", one, "--data", "echo x")


def test_refused_builds(virga, tmp_path):
    build_words = ["template", "build", tmp_path / "t", *SMALL]
    (tmp_path / "old").mkdir()
    refused(virga, 2, "exists already and is no snapshot", "template", "build", tmp_path / "old")
    refused(virga, 2, "--warm-request", *build_words, "--warm-request", tmp_path / "nothing")
    refused(virga, 2, "a whole number from 0", *build_words, "--warm", "-1")
    refused(virga, 2, "takes NAME|DIR", *build_words, "x")
    refused(virga, 2, "'virga template build' does not take it", *build_words, "--control", "x")
    refused(virga, 1, "cannot open", *build_words, "--kernel", tmp_path / "nothing")
    bad = request_file(tmp_path, "sum 100000")
    refused(virga, 1, "answered with an error", *build_words, "--warm-request", bad)
    refused(virga, 1, "answered with an error", *build_words, "--warm-request", bad, "--warm", "1")
    slow = request_file(tmp_path, "spin 5000000")
    refused(virga, 1, "", *build_words, "--warm-request", slow, "--timeout", "0.3")
    refused(virga, 1, "no answer within 0.3 s", *build_words, "--warm-request", slow, "--warm", "1",
            "--timeout", "0.3")
    assert not list(tmp_path.glob("t*"))


def test_guest_that_is_never_ready(virga, tmp_path):
    words = ["template", "build", tmp_path / "t", "--ready-timeout", "1", "--kernel"]
    refused(virga, 1, "did not say READY within 1 s", *words, guest("spin"))
    refused(virga, 1, "the machine ended", *words, guest("triple_fault"))
    assert not list(tmp_path.glob("t*"))


def console(done):
    """The lines of the guest that came with a failure, which is the last line."""
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("virga: template build: "), done.stderr
    said = [line for line in lines if line.startswith("virga: console: ")]
    return [line.removeprefix("virga: console: ") for line in said]


@pytest.mark.parametrize("name, why", [
    ("hello", "powered off"), ("acpi_reset", "asked for a reset"),
    ("keyboard_reset", "asked for a reset"), ("debug_exit", "ended by debug_exit"),
    ("triple_fault", "triple fault"), ("emulation", "emulation failure"),
])
def test_guest_that_ends_before_it_is_ready(virga, tmp_path, name, why):
    """At once, however long it may take to be ready, and with what it said last."""
    words = ["template", "build", tmp_path / "t", "--ready-timeout", "600", "--kernel"]
    done = refused(virga, 1, "the machine ended: ", *words, guest(name))
    assert why in done.stderr
    assert console(done) == ["SUCCESS"]


def test_console_of_a_guest_that_is_not_ready(virga, tmp_path):
    all_of_it = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop\n" * 10 + "SUCCESS\n"
    line = all_of_it.splitlines()[0]
    words = ["template", "build", tmp_path / "t", "--ready-timeout", "1", "--kernel"]
    done = refused(virga, 1, "did not say READY within 1 s", *words, guest("serial_flood"))
    said = console(done)
    assert len(said) == 40 and set(said[:-1]) == {line} and line.startswith(said[-1])
    words += [guest("serial_flood"), "--cmdline", "bytes=630", "--serial", "stdio"]
    done = refused(virga, 1, "the machine ended: ", *words)
    assert not console(done) and done.stdout == all_of_it
    words = [*words[:-5], guest("serial_flood"), "--serial", f"file:{tmp_path / 'log'}"]
    done = refused(virga, 1, "the machine ended: ", *words, "--cmdline", "bytes=630")
    assert not console(done) and (tmp_path / "log").read_text() == all_of_it
    words = ["template", "build", tmp_path / "t", "--device", "none", "--device", "virtio_vsock",
             "--device", "power", "--kernel", guest("hello")]
    assert not console(refused(virga, 1, "the machine ended: ", *words))


def test_killed_at_any_moment(virga, tmp_path):
    """Under its name it is whole or not there; the next build takes away what is left."""
    template, random_state = tmp_path / "t", random.Random(4)
    begin = time.monotonic()
    build(virga, tmp_path, "dirty 200", name="probe")
    whole_s, seen = time.monotonic() - begin, set()
    for _ in range(25):
        words = ["template", "build", template, *SMALL, "--warm-request", tmp_path / "request"]
        with Running(virga, *words) as builder:
            time.sleep(random_state.uniform(0, 1.2 * whole_s))
            builder.process.send_signal(signal.SIGKILL)
        if template.exists():
            verify(virga, template)
            assert invoke(virga, template, "dirty 200")[:2] == (0, dirty_sum(200))
            shutil.rmtree(template)
            seen.add("whole")
        else:
            seen.add("left-over" if (tmp_path / "t.tmp").exists() else "nothing")
    assert "left-over" in seen
    deadline = time.monotonic() + 5
    while True:
        done = run(virga, "template", "build", template, *SMALL)
        if done.returncode == 0 or time.monotonic() > deadline:
            break
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "t.tmp").exists()


# --- The store ---


def test_store(virga, tmp_path):
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    store = tmp_path / "data" / "virga"
    assert run(virga, "template", "list", env=env).returncode == 0
    done = run(virga, "template", "build", "hello", *SMALL, env=env)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert invoke(virga, store / "hello", "echo x")[:2] == (0, "x")
    listed = json.loads(run(virga, "template", "list", "--json", env=env).stdout)
    assert (listed["name"], listed["path"]) == ("hello", str(store / "hello"))
    assert "hello" in run(virga, "template", "list", env=env).stdout
    assert run(virga, "template", "check", env=env).stdout == "hello: whole\n"
    facts = inspect(virga, store / "hello")
    for words in (["hello"], ["hello", "--store", str(store)]):
        assert json.loads(run(virga, "inspect", "--json", *words, env=env).stdout) == facts
    refused(virga, 2, "cannot be opened", "inspect", "other", "--store", store)
    assert (listed["version"], listed["ready_us"]) == (
        facts["version"], facts["template"]["ready_us"])
    again = run(virga, "template", "build", "hello", *SMALL, env=env)
    assert again.returncode == 0 and again.stderr == ""
    listed = json.loads(run(virga, "template", "list", "--json", env=env).stdout)
    assert listed["version"] == inspect(virga, store / "hello")["version"] != facts["version"]
    assert run(virga, "template", "rm", "hello", env=env).returncode == 0
    assert not list(store.iterdir())
    again = run(virga, "template", "rm", "hello", env=env)
    assert again.returncode == 1 and "cannot be opened" in again.stderr


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "x.tmp", "a\nb", "é"])
def test_names(virga, tmp_path, name):
    refused(virga, 2, "is not a name for a template", "template", "build", name, "--store",
            tmp_path)


def test_check_finds_damage(virga, tmp_path):
    template = build(virga, tmp_path)
    with open(template / "memory", "r+b") as file:
        file.seek(5 * PAGE)
        file.write(b"damage")
    refused(virga, 1, "is damaged", "template", "check", "--store", tmp_path)
    refused(virga, 1, "is damaged", "template", "check", template)


def test_check_removes_left_overs(virga, tmp_path):
    left = tmp_path / "dead.tmp"
    left.mkdir()
    (left / "memory").write_bytes(b"x")
    done = run(virga, "template", "check", "--store", tmp_path)
    assert done.returncode == 0 and "removed" in done.stderr
    assert not left.exists()


def test_rm_spares_what_is_not_a_template(virga, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    refused(virga, 1, "no part of a snapshot", "template", "rm", mine)
    assert (mine / "letter").read_text() == "dear"


def test_rm_under_a_running_clone(virga, tmp_path):
    template = build(virga, tmp_path, "dirty 3")
    with Running(virga, "clone", template, "--request", "dirty 3", "--keep") as machine:
        machine.expect(dirty_sum(3))
        assert run(virga, "template", "rm", template).returncode == 0
        assert not template.exists()
        assert machine.stop() == 0


def test_help(virga):
    assert run(virga, "template").returncode == 2
    help_all = run(virga, "template", "--help")
    assert help_all.returncode == 0 and help_all.stderr == ""
    for verb in ("build", "list", "check", "rm", "export", "import"):
        assert f"virga template {verb}" in help_all.stdout
        done = run(virga, "template", verb, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"usage: virga template {verb}")
        assert len(done.stdout.splitlines()) < 25
    assert run_bytes(virga, "template", "sing").returncode == 2


def test_set_that_says_all_is_written(virga, tmp_path):
    """A small archive of a large machine: a start costs what a start may cost, 128 MiB."""
    words = ["template", "build", tmp_path / "t", "--memory", "1G"]
    assert run(virga, *words).returncode == 0
    file = tmp_path / "t/working-set"
    head = list(HEADER.unpack_from(file.read_bytes()))
    head[3] = 1
    data = HEADER.pack(*head) + RUN.pack(0, (1 << 30) // PAGE, 0, 1)
    file.write_bytes(data + struct.pack("<Q", xxh3(tmp_path)(data)))
    assert run(virga, "template", "export", tmp_path / "t", tmp_path / "a").returncode == 0
    assert (tmp_path / "a").stat().st_size < 1 << 20
    assert run(virga, "template", "import", tmp_path / "a", tmp_path / "copy").returncode == 0
    assert inspect(virga, tmp_path / "copy")["working_set"]["written_pages"] == (128 << 20) // PAGE
    with Kept(virga, tmp_path / "copy", 1, "echo x") as clone:
        (pid,) = children(clone.process.pid)
        said = Path(f"/proc/{pid}/smaps_rollup").read_text()
        private = int(re.search(r"Private_Dirty: +(\d+) kB", said)[1])
        assert 128 << 10 <= private < 160 << 10
