# SPDX-License-Identifier: Apache-2.0
"""Started with a standard file closed: nothing of ours ends up in a file that took its number."""

import subprocess

import pytest

from helpers import TIMEOUT_S, guest


def run_without(virga, numbers, *args):
    """Runs virga with these descriptors closed."""
    closing = " ".join(f"{number}>&-" for number in numbers)
    return subprocess.run(
        ["sh", "-c", f'"$@" {closing}', "sh", str(virga), *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_no_message_in_the_serial_file(virga, tmp_path, closed):
    plain, output = tmp_path / "plain", tmp_path / "output"
    usual = run_without(virga, (), "run", "--kernel", guest("hello"), "--serial", f"file:{plain}")
    assert usual.stderr.startswith("virga: ")
    done = run_without(
        virga, closed, "run", "--kernel", guest("hello"), "--serial", f"file:{output}"
    )
    assert done.stderr == ("" if 2 in closed else usual.stderr)
    assert plain.read_bytes() and output.read_bytes() == plain.read_bytes()


def test_no_answer_where_it_cannot_be_read(virga):
    done = run_without(virga, (1,), "version")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot write to standard output" in done.stderr


def test_serial_without_standard_input(virga):
    usual = run_without(virga, (), "run", "--kernel", guest("hello"), "--serial", "stdio")
    done = run_without(virga, (0,), "run", "--kernel", guest("hello"), "--serial", "stdio")
    assert usual.stdout
    assert (done.returncode, done.stdout, done.stderr) == (
        usual.returncode, usual.stdout, usual.stderr,
    )
