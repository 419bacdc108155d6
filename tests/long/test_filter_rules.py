# SPDX-License-Identifier: Apache-2.0
"""Every rule of the filters is needed: taken out, the test that tests/filter_rules.py names fails.

A program of its own is built in build/without, and linked anew for each rule.
"""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from filter_rules import rules

BUILD = ROOT / "build/without"
DEVICES = [ROOT / f"devices/{name}.c"
           for name in (ROOT / "build/devices.list").read_text().split(" of ")[0].split()]

UNITS = {test.split("::")[0] for test in rules().values() if test.startswith("unit/")}

pytestmark = pytest.mark.timeout(1200)


def build(*without):
    """The programs with filters that lack a rule; make takes a header that is newer as it is."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    for folder, words in ((BUILD, without), (BUILD / "glibc", ("--glibc", *without))):
        header = subprocess.run([ROOT / "build/filter_gen", *words, *DEVICES], check=True,
                                capture_output=True, text=True).stdout
        (folder / "filter.h").write_text(header)
    done = subprocess.run(
        ["make", "B=build/without", "build/without/virga.debug",
         *(f"build/without/tests/{unit}" for unit in UNITS)],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module", autouse=True)
def built_once():
    """All but the filters; and those as they are, with which every test named passes."""
    (BUILD / "glibc").mkdir(parents=True, exist_ok=True)
    build()
    for test in set(rules().values()):
        assert passes(test), f"{test} fails without any change of the filters"


def passes(test):
    file, case = test.split("::")
    words = [sys.executable, "-m", "pytest", "-q", f"tests/{test}"]
    if file in UNITS:  # all its cases; this one is looked at
        words = [BUILD / "tests" / file]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"VIRGA": str(BUILD / "virga.debug")},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if file in UNITS:
        assert f"[ RUN      ] {case}\n" in done.stdout, done.stdout
        return f"[       OK ] {case}\n" in done.stdout
    assert done.returncode in (0, 1), done.stdout
    return done.returncode == 0


@pytest.mark.parametrize("role, name", rules(), ids=lambda word: word.replace(" ", ""))
def test_rule_is_needed(role, name):
    build("--without", role, name)
    assert not passes(rules()[role, name]), "nothing needs it: drop it, or name a test that does"
