# SPDX-License-Identifier: Apache-2.0
"""The store of templates as it is found: other things in it, and the process that writes to it."""

import os
import stat

import pytest

from helpers import run
from serve_host import Host
from templates import SMALL, build, refused, verify

pytestmark = pytest.mark.system


def litter(store):
    """What a mount, people and other programs leave in a directory."""
    (store / "lost+found").mkdir(mode=0o700)
    (store / "empty").mkdir()
    (store / "README").write_text("templates")
    (store / "archive.zst").write_bytes(b"")
    (store / "other.tmp").write_text("a file")
    (store / "dangling").symlink_to("nothing")
    os.mkfifo(store / "fifo")
    os.mkfifo(store / "fifo.tmp")


NAMES = "README, archive.zst, dangling, empty, fifo, fifo.tmp, lost+found, other.tmp"


@pytest.mark.parametrize("verb", ["list", "check"])
def test_what_is_no_template(virga, tmp_path, verb):
    template = build(virga, tmp_path, name="t")
    litter(tmp_path)
    done = run(virga, "template", verb, "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"virga: the store {tmp_path}: passed over, being no templates: {NAMES}\n"
    assert [line.split()[0] for line in done.stdout.splitlines()][-1] in ("t", "t:")
    # A template that is damaged is still one, whichever file it has left.
    for name in ("config", "memory", "template", "working-set"):
        (template / name).unlink()
        refused(virga, 1, f"{template}: ", "template", verb, "--store", tmp_path)
    (template / "state").unlink()
    done = run(virga, "template", verb, "--store", tmp_path)
    assert done.returncode == 0 and done.stderr.endswith(", t\n"), done.stderr


def test_many_things_that_are_no_templates(virga, tmp_path):
    for number in range(100):
        (tmp_path / f"letter-{number:03}\n").write_text("dear")
    done = run(virga, "template", "list", "--store", tmp_path)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1
    assert ": letter-000?, letter-001?, " in done.stderr and done.stderr.endswith(" more\n")
    shown = done.stderr.count("letter-")
    assert done.stderr.endswith(f" and {100 - shown} more\n")


def test_host_and_what_is_no_template(virga):
    host = Host(virga)
    host.store.mkdir()
    build(virga, host.store, name="t")
    litter(host.store)
    (host.folder / "config").write_text('{"bare": 1}')
    with host:
        assert "cannot be served" not in host.said()
        names = {each["name"] for each in host.status()["functions"]}
        assert "t" in names and not names & set(NAMES.split(", ")), names


def test_mask_that_denies_everything(virga, tmp_path):
    """A umask of 0777: what virga makes can be used by who has made it, and by nobody else."""
    template = tmp_path / "store" / "t"

    def started():
        os.umask(0o777)

    for words in (["template", "build", "t", *SMALL, "--store", template.parent],
                  ["template", "export", template, tmp_path / "t.zst"],
                  ["template", "import", tmp_path / "t.zst", tmp_path / "copy"]):
        done = run(virga, *words, preexec_fn=started)
        assert done.returncode == 0, done.stderr
    for folder in (template, tmp_path / "copy"):
        verify(virga, folder)
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for folder in (template.parent, template, tmp_path / "copy"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert sorted(os.listdir(tmp_path)) == ["copy", "store", "t.zst"]
