# SPDX-License-Identifier: Apache-2.0
"""The README's `make demo` and `make check` where nothing was installed: minutes by the dozen."""

import os
import signal
import subprocess

import pytest

from conftest import ROOT

END = 8000


@pytest.mark.skipif(os.geteuid() != 0, reason="tests/fresh makes and mounts a root: needs root")
@pytest.mark.timeout(3 * 3600)
def test_fresh():
    with subprocess.Popen([ROOT / "tests/fresh"], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate()
        except BaseException:  # a time-out, an interrupt: nothing of it goes on
            os.killpg(process.pid, signal.SIGTERM)
            raise
    assert process.returncode == 0, output[-END:]
