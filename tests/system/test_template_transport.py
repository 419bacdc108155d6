# SPDX-License-Identifier: Apache-2.0
"""`virga template export` and `import`: there and back, and archives that others have made."""

import io
import os
import pty
import shutil
import stat
import subprocess
import tarfile

import pytest

from helpers import Running, run, wait_for
from templates import (
    PAGE,
    SMALL,
    Killer,
    build,
    digest,
    initial_sum,
    inspect,
    invoke,
    refused,
    run_bytes,
    small_disk,
    verify,
)

pytestmark = pytest.mark.system

MEMBERS = ["config", "state", "working-set", "template", "memory"]
FOREIGN = "/tmp/virga-test-foreign"


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    """Some MiB of memory that are not zero."""
    folder = tmp_path_factory.mktemp("transport")
    return build(virga, folder, "sum 9", "--cmdline", "pages=1500")


@pytest.fixture(scope="module")
def archive(virga, template):
    path = template.parent / "template.tar.zst"
    done = run(virga, "template", "export", template, path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return path


def unpacked(archive):
    """The tar archive in it."""
    return subprocess.run(["zstd", "-qdc", archive], stdout=subprocess.PIPE, check=True).stdout


def packed(data, path):
    subprocess.run(["zstd", "-q", "-f", "-o", path], input=data, check=True)
    return path


def names(folder):
    return sorted(os.listdir(folder))


# --- There and back ---


def test_round_trip(virga, template, archive, tmp_path):
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert names(archive.parent) == ["request", "template", "template.tar.zst"]
    copy = tmp_path / "copy"
    done = run(virga, "template", "import", archive, copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(tmp_path) == ["copy"]
    assert names(copy) == sorted(MEMBERS)
    for name in MEMBERS:
        assert digest(copy / name) == digest(template / name)
        assert stat.S_IMODE((copy / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    # Holes are holes.
    assert (copy / "memory").stat().st_blocks * 512 < (template / "memory").stat().st_size / 2
    one, two = inspect(virga, template), inspect(virga, copy)
    assert one.pop("path") != two.pop("path")
    del one["memory_data_bytes"], two["memory_data_bytes"]
    assert one == two
    verify(virga, copy)
    assert invoke(virga, copy, "sum 1500")[:2] == (0, initial_sum(1500))
    assert run(virga, "template", "check", copy).returncode == 0


def test_is_an_ordinary_archive(archive):
    with tarfile.open(fileobj=io.BytesIO(unpacked(archive))) as tar:
        assert tar.getnames() == MEMBERS
        for member in tar:
            assert (member.uid, member.gid, member.mtime, member.mode) == (0, 0, 0, 0o600)
            assert (member.uname, member.gname) == ("", "")


def test_deterministic(virga, template, archive, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", "--sparse=always", template, copy], check=True)
    os.chmod(copy / "config", 0o644)
    env = {**os.environ, "TAR_OPTIONS": "--format=posix", "ZSTD_CLEVEL": "19"}
    done = run(virga, "template", "export", copy, tmp_path / "x.zst", env=env)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "x.zst") == digest(archive)


def test_the_same_however_often_it_was_started(virga, tmp_path):
    """A start from a file system in memory fills holes of `memory` with what is read there."""
    with small_disk(tmp_path / "disk", "64m") as disk:
        template = build(virga, disk, "sum 9", "--cmdline", "pages=1500", name="t")
        before = (template / "memory").stat().st_blocks
        assert run(virga, "template", "export", template, tmp_path / "a").returncode == 0
        for _ in range(3):
            assert invoke(virga, template, "sum 1500")[:2] == (0, initial_sum(1500))
        # As a start with huge pages does it, on hosts that give them.
        with open(template / "memory", "r+b") as memory:
            for place in range(0, memory.seek(0, os.SEEK_END), 2 << 20):
                memory.seek(place)
                page = memory.read(PAGE)
                memory.seek(place)
                memory.write(page)
        assert (template / "memory").stat().st_blocks > before
        assert run(virga, "template", "export", template, tmp_path / "b").returncode == 0
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_pipes(virga, template, archive, tmp_path):
    done = run_bytes(virga, "template", "export", template, "-")
    assert done.returncode == 0 and digest(done.stdout) == digest(archive)
    done = subprocess.run([virga, "template", "import", "-", tmp_path / "t"], input=done.stdout,
                          capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    verify(virga, tmp_path / "t")
    with open("/dev/full", "wb") as full:
        done = run_bytes(virga, "template", "export", template, "-", stdout=full)
    assert done.returncode == 1 and b"No space left on device" in done.stderr
    # Nobody reads it, which is no full disk.
    reader, writer = os.pipe()
    os.close(reader)
    done = run_bytes(virga, "template", "export", template, "-", stdout=writer)
    os.close(writer)
    assert done.returncode == 1 and b"disk" not in done.stderr, done.stderr


def test_names_in_the_store(virga, archive, tmp_path):
    store = ["--store", tmp_path / "store"]
    assert run(virga, "template", "import", archive, "hello", *store).returncode == 0
    done = run(virga, "template", "export", "hello", tmp_path / "h.zst", *store)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "h.zst") == digest(archive)
    refused(virga, 2, "is not a name", "template", "import", archive, "x.tmp", *store)
    refused(virga, 1, "cannot be opened", "template", "export", "nothing", tmp_path / "y", *store)
    assert names(tmp_path) == ["h.zst", "store"]


def test_without_the_optional_files(virga, template, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", template, copy], check=True)
    (copy / "working-set").unlink()
    (copy / "template").unlink()
    assert run(virga, "template", "export", copy, tmp_path / "x").returncode == 0
    assert run(virga, "template", "import", tmp_path / "x", tmp_path / "y").returncode == 0
    assert names(tmp_path / "y") == ["config", "memory", "state"]


def test_import_replaces(virga, archive, tmp_path):
    other = build(virga, tmp_path, name="t")
    old = inspect(virga, other)["version"]
    done = run(virga, "template", "import", archive, other)
    assert (done.returncode, done.stderr) == (0, "")
    assert inspect(virga, other)["version"] != old and names(tmp_path) == ["t"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    refused(virga, 2, "holds 'letter'", "template", "import", archive, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


def test_export_never_replaces(virga, template, tmp_path):
    file = tmp_path / "x.zst"
    file.write_text("dear")
    refused(virga, 2, "exists already", "template", "export", template, file)
    assert file.read_text() == "dear"
    refused(virga, 2, "ends in .tmp", "template", "export", template, tmp_path / "x.tmp")
    refused(virga, 2, "cannot be made", "template", "export", template, tmp_path / "no" / "x")
    file.rename(tmp_path / "y.zst.tmp")
    refused(virga, 2, "nothing that an export has left", "template", "export", template,
            tmp_path / "y.zst")
    assert names(tmp_path) == ["y.zst.tmp"]


def test_export_of_a_damaged_template(virga, template, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", "--sparse=always", template, copy], check=True)
    with open(copy / "memory", "r+b") as file:
        file.seek(5 * PAGE)
        file.write(b"damage")
    refused(virga, 1, "is damaged", "template", "export", copy, tmp_path / "x.zst")
    (copy / "state").write_bytes(b"")
    refused(virga, 1, "cut short", "template", "export", copy, tmp_path / "x.zst")
    assert names(tmp_path) == ["copy"]


# --- Archives of others ---


def cannot(virga, archive, tmp_path, sentence):
    """It is refused with a sentence that names it, and leaves nothing."""
    done = run(virga, "template", "import", archive, tmp_path / "new")
    assert done.returncode == 1 and sentence in done.stderr and str(archive) in done.stderr, (
        sentence, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert not list(tmp_path.glob("new*")) and not os.path.lexists(FOREIGN)


def test_garbage(virga, template, archive, tmp_path):
    good, file = archive.read_bytes(), tmp_path / "a.zst"
    for data in (b"", b"x", b"\0" * 100000, os.urandom(100000), good[:-1], good[:4], good[:1000],
                 good[:len(good) // 2], good[1:]):
        file.write_bytes(data)
        cannot(virga, file, tmp_path, "copy it again")
    for at in range(5, len(good), len(good) // 40):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1:])
        # A window that is larger than needed does no harm.
        if at == 5 and run(virga, "template", "import", file, tmp_path / "new").returncode == 0:
            assert digest(tmp_path / "new/memory") == digest(template / "memory")
            shutil.rmtree(tmp_path / "new")
        else:
            cannot(virga, file, tmp_path, "")
    file.write_bytes(good + b"x")
    cannot(virga, file, tmp_path, "")
    file.write_bytes(good + good)
    cannot(virga, file, tmp_path, "something follows its end")
    tar = unpacked(archive)
    for data in (b"", b"\0" * 10240, tar[:len(tar) // 2 // 512 * 512], tar[:700], b"\x7f" * 5000):
        cannot(virga, packed(data, file), tmp_path, "")
    refused(virga, 2, "cannot be opened", "template", "import", tmp_path / "no", tmp_path / "new")
    cannot(virga, tmp_path, tmp_path, "zstd says")


def test_another_compression(virga, template, tmp_path):
    """zstd decompresses gzip too: what is in it still has to be a template."""
    file = tmp_path / "a.gz"
    with open(file, "wb") as out:
        subprocess.run(["gzip", "-c", template / "memory"], stdout=out, check=True)
    cannot(virga, file, tmp_path, "")


def rewritten(archive, path, edit, format=tarfile.GNU_FORMAT):
    """The archive with its list of (TarInfo, bytes) changed by edit(list)."""
    with tarfile.open(fileobj=io.BytesIO(unpacked(archive))) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    for member, data in members:
        member.type, member.size = tarfile.REGTYPE, len(data)
        member.sparse = None
    edit(members)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return packed(out.getvalue(), path)


def special(name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o600
    return member, b""


def regular(name, data=b"x"):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    return member, data


def test_rewritten_as_it_is(virga, template, archive, tmp_path):
    """What the next test changes is accepted when it is not changed."""
    file = rewritten(archive, tmp_path / "a.zst", lambda members: None)
    done = run(virga, "template", "import", file, tmp_path / "new")
    assert done.returncode == 0, done.stderr
    verify(virga, tmp_path / "new")
    assert digest(tmp_path / "new" / "memory") == digest(template / "memory")


HOSTILE = {
    "other": (regular("other"), "no part of a template"),
    "above": (regular("../virga-test-foreign"), "no part of a template"),
    "absolute": (regular(FOREIGN), "no part of a template"),
    "unfinished": (regular("unfinished"), "no part of a template"),
    "folder": (special("folder", tarfile.DIRTYPE), "which is no regular file"),
    "symlink": (special("memory", tarfile.SYMTYPE, FOREIGN), "which is no regular file"),
    "symlink away": (special("x", tarfile.SYMTYPE, "/tmp"), "which is no regular file"),
    "hard link": (special("state", tarfile.LNKTYPE, "/etc/passwd"), "which is no regular file"),
    "device": (special("memory", tarfile.BLKTYPE), "which is no regular file"),
    "character device": (special("config", tarfile.CHRTYPE), "which is no regular file"),
    "fifo": (special("state", tarfile.FIFOTYPE), "which is no regular file"),
    "long name": (regular("x/" * 200 + "y"), "which is no regular file"),
    "duplicate": (regular("config", b"{}"), "twice"),
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members(virga, archive, tmp_path, case, place):
    extra, sentence = HOSTILE[case]

    def edit(members):
        members.insert(0 if place == "first" else len(members), extra)

    cannot(virga, rewritten(archive, tmp_path / "a.zst", edit), tmp_path, sentence)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_link_in_place_of_a_member(virga, archive, tmp_path, name):
    def edit(members):
        members[MEMBERS.index(name)] = special(name, tarfile.SYMTYPE, FOREIGN)

    cannot(virga, rewritten(archive, tmp_path / "a.zst", edit), tmp_path, "no regular file")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_other_formats(virga, archive, tmp_path, format):
    file = rewritten(archive, tmp_path / "a.zst", lambda members: None, format)
    cannot(virga, file, tmp_path, "no tar archive in GNU format")


@pytest.mark.parametrize("missing", ["config", "state", "memory"])
def test_a_member_is_missing(virga, archive, tmp_path, missing):
    def edit(members):
        del members[MEMBERS.index(missing)]

    cannot(virga, rewritten(archive, tmp_path / "a.zst", edit), tmp_path, f"'{missing}'")


def test_memory_of_another_length(virga, archive, tmp_path):
    for change in (PAGE, -PAGE, 1 << 20):
        def edit(members):
            member, data = members[-1]
            data = data + bytes(change) if change > 0 else data[:change]
            member.size = len(data)
            members[-1] = (member, data)

        cannot(virga, rewritten(archive, tmp_path / "a.zst", edit), tmp_path,
               f"a 'memory' of {(16 << 20) + change} bytes, but its state says {16 << 20}")


def test_a_bomb(virga, archive, tmp_path):
    """Terabytes that are a few KiB: refused before a byte of them is written."""
    tar = unpacked(archive)
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        at = members.getmember("memory").offset
    header = bytearray(tar[at:at + 512])
    header[124:136] = b"\x80" + (1 << 42).to_bytes(11, "big")
    header[156:157] = b"0"
    header[386:500] = bytes(114)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    cannot(virga, packed(tar[:at] + header + bytes(10 << 20), tmp_path / "a.zst"), tmp_path,
           f"a 'memory' of {1 << 42} bytes")


def test_wrong_content(virga, template, archive, tmp_path):
    """The archive is sound, what is in it does not belong together."""
    other = build(virga, tmp_path, "sum 9", "--cmdline", "pages=1500", name="other")

    def part(name):
        def edit(members):
            data = (other / name).read_bytes()
            member, _ = members[MEMBERS.index(name)]
            member.size = len(data)
            members[MEMBERS.index(name)] = (member, data)
        return edit

    for name, sentence in (("state", "belongs to another"), ("working-set", "belongs to another"),
                           ("template", "belongs to another snapshot")):
        cannot(virga, rewritten(archive, tmp_path / "a.zst", part(name)), tmp_path, sentence)

    def damage(members):
        member, data = members[-1]
        members[-1] = (member, data[:5 * PAGE] + b"damage" + data[5 * PAGE + 6:])

    cannot(virga, rewritten(archive, tmp_path / "a.zst", damage), tmp_path, "is damaged")

    def configure(members):
        members[0] = regular("config", b"{}\n")

    cannot(virga, rewritten(archive, tmp_path / "a.zst", configure), tmp_path,
           "is not the one that the snapshot was made with")


# --- Bad luck ---


def test_programs_are_missing(virga, template, archive, tmp_path):
    for program, needed in (("zstd", ("export", "import")), ("tar", ("import",))):
        path = tmp_path / f"without-{program}"
        path.mkdir()
        for name in {"zstd", "tar"} - {program}:
            (path / name).symlink_to(shutil.which(name))
        env = {**os.environ, "PATH": str(path)}
        sentence = f"{program} is not installed; install the package {program}"
        for verb in needed:
            what = template if verb == "export" else archive
            refused(virga, 1, sentence, "template", verb, what, tmp_path / "x", env=env)
    assert names(tmp_path) == ["without-tar", "without-zstd"]


def test_full_disk(virga, template, archive, tmp_path):
    with small_disk(tmp_path / "disk", "1M") as disk:
        refused(virga, 1, "make room", "template", "export", template, disk / "x.zst")
        assert names(disk) == []
        refused(virga, 1, "make room", "template", "import", archive, disk / "t")
        assert names(disk) == []
    with small_disk(tmp_path / "room", "10M") as disk:
        assert run(virga, "template", "import", archive, disk / "t").returncode == 0
        old = inspect(virga, disk / "t")["version"]
        refused(virga, 1, "make room", "template", "import", archive, disk / "t")
        assert names(disk) == ["t"] and inspect(virga, disk / "t")["version"] == old


def test_killed_import(virga, archive, tmp_path):
    template, seen, killer = tmp_path / "t", set(), Killer(virga, 5)
    words = ["template", "import", archive, template]
    for _ in range(50):
        if killer.kill(words, template.exists):
            verify(virga, template)
            seen.add("whole")
            assert run(virga, "template", "check", "--store", tmp_path).returncode == 0
            wait_for(lambda: run(virga, "template", "rm", template).returncode == 0)
        elif (tmp_path / "t.tmp").exists():
            seen.add("left-over")
            # check leaves it alone while tar lives.
            wait_for(lambda: run(virga, "template", "check", template).returncode
                     and not (tmp_path / "t.tmp").exists(), what="the end of tar")
    assert seen == {"whole", "left-over"}
    killer.kill(words, template.exists)
    wait_for(lambda: run(virga, *words).returncode == 0)
    assert names(tmp_path) == ["t"]


def test_killed_import_over_another(virga, archive, template, tmp_path):
    words = ["template", "import", archive, tmp_path / "t"]
    new, seen, killer = inspect(virga, template)["version"], set(), Killer(virga, 6)
    build(virga, tmp_path, name="t")
    old = inspect(virga, tmp_path / "t")["version"]
    for _ in range(40):
        verify(virga, tmp_path / "t")
        if killer.kill(words, lambda: inspect(virga, tmp_path / "t")["version"] == new):
            seen.add("new")
            again = ["template", "build", tmp_path / "t", *SMALL]
            wait_for(lambda: run(virga, *again).returncode == 0)
            old = inspect(virga, tmp_path / "t")["version"]
        else:
            assert inspect(virga, tmp_path / "t")["version"] == old
            seen.add("old")
    assert seen == {"old", "new"}
    wait_for(lambda: run(virga, "template", "check", "--store", tmp_path).returncode == 0
             and names(tmp_path) == ["t"])


def test_killed_export(virga, template, archive, tmp_path):
    file, seen, killer = tmp_path / "x.zst", set(), Killer(virga, 7)
    words = ["template", "export", template, file]
    for _ in range(50):
        if killer.kill(words, file.exists):
            assert digest(file) == digest(archive)
            file.unlink()
            seen.add("whole")
        elif (tmp_path / "x.zst.tmp").exists():
            seen.add("left-over")
    assert seen == {"whole", "left-over"}
    wait_for(lambda: run(virga, *words).returncode == 0)
    assert digest(file) == digest(archive)
    assert names(tmp_path) == ["x.zst"]


def test_replaced_while_it_is_exported(virga, tmp_path):
    """Either it is the old one, whole, or it is refused."""
    template = build(virga, tmp_path, name="t")
    for i in range(8):
        with Running(virga, "template", "build", template, *SMALL) as builder:
            while builder.process.poll() is None:
                file = tmp_path / "x.zst"
                done = run(virga, "template", "export", template, file)
                if done.returncode:
                    assert "export it again" in done.stderr and not file.exists()
                    continue
                assert run(virga, "template", "import", file, tmp_path / f"{i}").returncode == 0
                file.unlink()
            assert builder.process.returncode == 0, builder.errors()


def test_progress(virga, template, archive, tmp_path):
    """On a terminal one sees what takes long."""
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "zstd").write_text(f'#!/bin/sh\n{shutil.which("zstd")} "$@" | (sleep 1.2; cat)\n')
    (slow / "zstd").chmod(0o755)
    env = {**os.environ, "PATH": f"{slow}:{os.environ['PATH']}"}
    ours, theirs = pty.openpty()
    try:
        words = [virga, "template", "import", archive, tmp_path / "t"]
        done = subprocess.run(words, stderr=theirs, env=env, timeout=60, check=False)
        said = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0, said
    assert "unpacking" in said and "MiB unpacked" in said and "verifying" in said
