# SPDX-License-Identifier: Apache-2.0
"""Unmodified Debian kernels under virga, in the nested bed: one test per job."""

import subprocess

import pytest

JOBS = {"boot-pvh": 300, "boot-bzimage": 300, "answer": 300, "busy": 240, "soft-lockup": 240}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("job", JOBS)
def test_job(root, job):
    run = subprocess.run([root / "tests/nested/run", "--timeout", str(JOBS[job]), job],
                         capture_output=True, text=True, timeout=JOBS[job] + 60, check=False)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
    assert "ok: " in run.stdout
