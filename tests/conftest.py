# SPDX-License-Identifier: Apache-2.0
"""How the tests are collected, ordered and counted.

Each cmocka case of tests/unit/ is a test here; in continuous integration (CI=true) a skip is a
failure; the last line is `N passed, N failed, N skipped`. Fixtures for all: `root`, `virga`.
"""

import fcntl
import functools
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
ORDER = ["unit", "fuzz", "guest", "system", "nested"]
UNIT_TIMEOUT_S = 300
KVM_GET_API_VERSION = 0xAE00

TAP_LINE = re.compile(r"^\s*(not ok|ok) \d+ (-|# SKIP) (\S+)")
TAP_PLAN = re.compile(r"^\s*1\.\.(\d+)")


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def virga():
    """The program under test, built by make; VIRGA names another."""
    path = Path(os.environ.get("VIRGA", ROOT / "virga"))
    assert path.exists(), f"{path} is missing: run make"
    return path


@functools.lru_cache
def kvm_problem():
    """Why no machine can be started here, as a sentence; empty when one can."""
    try:
        with open("/dev/kvm", "r+b", buffering=0) as kvm:
            version = fcntl.ioctl(kvm, KVM_GET_API_VERSION)
    except OSError as error:
        return (f"/dev/kvm: {error.strerror}; these tests start machines: load kvm_intel or "
                "kvm_amd, and run as root or as a member of the group kvm")
    return "" if version == 12 else f"/dev/kvm: speaks version {version} of its interface, not 12"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without KVM the tests that boot something are skipped; where nothing may be, they fail."""
    if item.path.parent.name in ("guest", "system") and (problem := kvm_problem()):
        pytest.skip(problem)


# --- unit tests: one item per cmocka case


class UnitCase(pytest.Item):
    """One case; the whole program has run once, at collection, and left its verdict."""

    def __init__(self, *, failure, skipped, **kwargs):
        super().__init__(**kwargs)
        self.failure = failure
        self.skipped = skipped

    def runtest(self):
        if self.skipped:
            pytest.skip(self.skipped)
        if self.failure:
            raise UnitFailure(self.failure)

    def repr_failure(self, excinfo, style=None):
        return str(excinfo.value)

    def reportinfo(self):
        return self.path, None, self.name


class UnitFailure(Exception):
    """What cmocka printed about a case."""


class UnitFile(pytest.File):
    """tests/unit/ROOM/test_NAME.c: runs build/tests/unit/ROOM/test_NAME, reads its TAP lines."""

    def collect(self):
        program = ROOT / "build" / self.path.relative_to(ROOT).with_suffix("")
        if not program.exists():
            yield self.case("build", failure=f"{program} is missing: run make tests")
            return
        status, output = run_unit(program)
        planned, cases = parse_tap(output)
        for name, verdict, detail in cases:
            yield self.case(
                name,
                failure=detail or "failed" if verdict == "failed" else None,
                skipped=detail or "does not say why" if verdict == "skipped" else None,
            )
        passed = all(verdict == "passed" for _, verdict, _ in cases)
        if len(cases) < max(planned, 1) or (status != 0 and passed):
            yield self.case("exit", failure=f"ended with {status}:\n{output}")

    def case(self, name, failure=None, skipped=None):
        return UnitCase.from_parent(self, name=name, failure=failure, skipped=skipped)


def run_unit(program):
    """(status in words or 0, all output)."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    try:
        done = subprocess.run(
            [program],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=UNIT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return f"a time-out of {UNIT_TIMEOUT_S} s", (late.output or b"").decode(errors="replace")
    status = done.returncode
    if status < 0:
        status = signal.Signals(-status).name
    return status, done.stdout.decode(errors="replace")


def parse_tap(output):
    """(number of cases planned, [(name, verdict, detail)]): what follows a failure, and the last
    line before a skip, which is printed by print_message()."""
    planned, cases, last = 0, [], ""
    for line in output.splitlines():
        plan, match = TAP_PLAN.match(line), TAP_LINE.match(line)
        if plan:
            planned += int(plan.group(1))
        elif match:
            verdict = "passed" if match.group(1) == "ok" else "failed"
            if match.group(2) == "# SKIP":
                verdict = "skipped"
            cases.append((match.group(3), verdict, last if verdict == "skipped" else ""))
            last = ""
        else:
            last = line.strip()
            if cases and cases[-1][1] == "failed":
                name, verdict, detail = cases[-1]
                cases[-1] = (name, verdict, detail + last + "\n")
    return planned, cases


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".c" and file_path.stem.startswith("test_"):
        if file_path.is_relative_to(ROOT / "tests/unit"):
            return UnitFile.from_parent(parent, path=file_path)
    return None


# --- order, and what a skip means


def pytest_collection_modifyitems(items):
    def rank(item):
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        return ORDER.index(folder) if folder in ORDER else ORDER.index("system")

    items.sort(key=rank)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    report = (yield).get_result()
    if CI and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason}"


# --- the last line

COUNTED = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
    stats = terminalreporter.stats
    failed = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
    config.stash[COUNTED] = (
        len([report for report in stats.get("passed", []) if report.nodeid not in failed]),
        len(failed),
        len(stats.get("skipped", [])),
    )


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if COUNTED in config.stash:
        print("%d passed, %d failed, %d skipped" % config.stash[COUNTED], flush=True)
