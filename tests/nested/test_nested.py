# SPDX-License-Identifier: Apache-2.0
"""Unmodified Debian kernels under virga, in the nested bed: one test per job, two jobs at a time."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

JOBS = {"boot-pvh": 600, "boot-bzimage": 480, "answer": 480, "busy": 240, "soft-lockup": 240,
        "template": 240, "rng": 240, "reset": 240, "state": 240, "power-button": 240}
WORKERS = min(2, os.cpu_count())


class Bed:
    """Runs jobs side by side: each is an emulator of one CPU, and most of a job is its start."""

    def __init__(self, root, jobs):
        self.root = root
        self.running = set()
        self.pool = ThreadPoolExecutor(WORKERS)
        self.results = {job: self.pool.submit(self.run, job) for job in jobs}

    def run(self, job):
        limit_s = JOBS[job]
        process = subprocess.Popen(
            [self.root / "tests/nested/run", "--timeout", str(limit_s), job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.add(process)
        try:
            output, errors = process.communicate(timeout=limit_s + 60)
        finally:
            process.terminate()
            self.running.discard(process)
        return process.returncode, output, errors

    def close(self):
        """After the last test nothing runs; after an interrupt everything is ended."""
        for result in self.results.values():
            result.cancel()
        for process in list(self.running):
            process.terminate()
        self.pool.shutdown()


@pytest.fixture(scope="module")
def bed(request, root):
    chosen = [item.callspec.params["job"] for item in request.session.items
              if item.path == request.path and hasattr(item, "callspec")]
    subprocess.run([root / "tests/nested/fetch"], check=True, timeout=600)
    bed = Bed(root, chosen)
    yield bed
    bed.close()


# The first test waits for the packages, a later one for all that are before it in the line.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("job", JOBS)
def test_job(bed, job):
    status, output, errors = bed.results[job].result()
    assert status == 0, f"{output[-6000:]}\n{errors[-2000:]}"
    assert "ok: " in output
