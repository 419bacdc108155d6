# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets that make has built, and says what they did (docs/fuzzing.md).

    python3 tests/fuzz/fuzzing.py SECONDS [NAME...]   each target for so long; a table at the end
    python3 tests/fuzz/fuzzing.py coverage            lines that all inputs so far reach

What a target finds new is kept in build/fuzz/corpus/NAME, beside the small start in
tests/fuzz/corpus/NAME; an input that ends it is build/fuzz/crash/NAME-*. Exit status 1: there
is one.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "tests" / "fuzz"
FUZZ = ROOT / "build" / "fuzz"
COVER = ROOT / "build" / "cover"
# Longer, more memory, or more of it in one piece, is a finding. Sentences for people are not shown.
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=64", "-close_fd_mask=2"]
LATE_S = 300
# What was freed is watched for a while, not for ever: fresh memory costs more than what is tested.
SANITIZERS = {"ASAN_OPTIONS": "quarantine_size_mb=8:malloc_context_size=10",
              "UBSAN_OPTIONS": "print_stacktrace=1"}
STATUS = re.compile(r"^#\d+\s+(\S+)\s+cov: (\d+) ft: (\d+)")
FINAL = re.compile(r"^stat::(\w+):\s+(\d+)")


def targets():
    """Names of all targets."""
    return sorted(path.stem for path in SOURCES.glob("*.c"))


def execute(program, *arguments, timeout, **env):
    """(ended well, what it said); by libFuzzer's own words, whoever of the two is wrong."""
    try:
        done = subprocess.run([program, *LIMITS, *arguments], cwd=ROOT, timeout=timeout,
                              env=dict(os.environ, **SANITIZERS, **env),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False)
    except subprocess.TimeoutExpired as late:
        return False, (late.stderr or b"").decode(errors="replace") + "\nit does not end"
    return done.returncode == 0, done.stderr.decode(errors="replace")


def replay(name):
    """Runs what was found in the past: (ended well, what was said)."""
    past = sorted((SOURCES / "findings" / name).glob("*"))
    return execute(FUZZ / name, *past, timeout=LATE_S) if past else (True, "")


def corpus(name):
    """The folders of its inputs; the one that grows is the first."""
    grown = FUZZ / "corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    return [grown, SOURCES / "corpus" / name]


def fuzz(name, seconds):
    """Fuzzes one target: figures, and `output` when something was found."""
    figures = {"name": name, "edges": 0, "before": 0, "features": 0}
    well, text = replay(name)
    if well:
        (FUZZ / "crash").mkdir(parents=True, exist_ok=True)
        well, text = execute(FUZZ / name, f"-max_total_time={seconds}", "-max_len=4096",
                             "-print_final_stats=1", f"-artifact_prefix={FUZZ}/crash/{name}-",
                             *corpus(name), timeout=seconds + LATE_S)
    for line in text.splitlines():
        if match := STATUS.match(line):
            figures["edges"], figures["features"] = int(match[2]), int(match[3])
            if match[1] == "INITED":
                figures["before"] = figures["features"]
        elif match := FINAL.match(line):
            figures[match[1]] = int(match[2])
    figures["executions"] = figures.get("number_of_executed_units", 0)
    figures["per_second"] = figures.get("average_exec_per_sec", 0)
    if not well:
        figures["output"] = "".join(line for line in text.splitlines(True) if line[0] != "#")
    return figures


def fuzz_all(names, seconds, said=lambda row: None):
    """Fuzzes these, as many at once as there are CPUs: {name: figures}."""
    rows = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for job in concurrent.futures.as_completed([pool.submit(fuzz, n, seconds) for n in names]):
            rows[job.result()["name"]] = job.result()
            said(job.result())
    return rows


def print_table(rows):
    """What each did: `new` are features (edges, and how often they were taken) beyond the inputs
    that it began with."""
    print(f"\n{'target':14} {'executions':>12} {'a second':>9} {'edges':>6} {'features':>9}"
          f" {'new':>6}")
    for name, row in sorted(rows.items()):
        new = row["features"] - row["before"]
        print(f"{name:14} {row['executions']:12} {row['per_second']:9} {row['edges']:6} "
              f"{row['features']:9} {new:6}")
    print(f"{'all':14} {sum(row['executions'] for row in rows.values()):12}")


def run(seconds, names):
    """`make fuzz`: 1 when something was found."""
    def said(row):
        print(f"  FUZZ    {row['name']}: {row['executions']} executions"
              f"{', and it FOUND SOMETHING' if 'output' in row else ''}", flush=True)

    rows = fuzz_all(names, seconds, said)
    found = [name for name, row in rows.items() if "output" in row]
    for name in found:
        print(f"\n--- {name}\n{rows[name]['output'][-20000:]}", file=sys.stderr)
    print_table(rows)
    if found:
        print(f"found by {', '.join(found)}: the inputs are build/fuzz/crash/NAME-*")
    return 1 if found else 0


def profile(name):
    """What a target reaches by all inputs that there are."""
    raw = COVER / f"{name}.profraw"
    folders = [*corpus(name), *(path for path in [SOURCES / "findings" / name] if path.exists())]
    well, text = execute(COVER / name, "-runs=0", *folders, timeout=2 * LATE_S,
                         LLVM_PROFILE_FILE=str(raw))
    if not well:
        raise SystemExit(text)
    return raw


def coverage():
    """Prints the lines that are reached, of each file of which there are some, by folder."""
    names = targets()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        raws = list(pool.map(profile, names))
    merged = COVER / "merged.profdata"
    subprocess.run(["llvm-profdata-14", "merge", "-sparse", *raws, "-o", merged], check=True)
    objects = [word for name in names[1:] for word in ("-object", COVER / name)]
    report = subprocess.run(["llvm-cov-14", "export", "-summary-only", COVER / names[0], *objects,
                             f"-instr-profile={merged}"], check=True, stdout=subprocess.PIPE)
    folders = {}
    for file in json.loads(report.stdout)["data"][0]["files"]:
        path = Path(os.path.relpath(file["filename"], ROOT))
        lines = file["summary"]["lines"]
        if lines["covered"] and path.parts[0] not in ("tests", ".."):
            folders.setdefault(str(path.parent), []).append((path.name, lines))
    for folder, files in sorted(folders.items()):
        count, covered = (sum(lines[key] for _, lines in files) for key in ("count", "covered"))
        print(f"{folder + '/':24} {covered:6} of {count:6} lines {100 * covered / count:6.1f} %")
        for name, lines in sorted(files):
            print(f"    {name:20} {lines['covered']:6} of {lines['count']:6} lines "
                  f"{lines['percent']:6.1f} %")
    return 0


def main(arguments):
    """The status of the command."""
    if arguments == ["coverage"]:
        return coverage()
    if not arguments or not arguments[0].isdigit() or set(arguments[1:]) - set(targets()):
        print(f"{__doc__}\nTargets: {' '.join(targets())}", file=sys.stderr)
        return 2
    return run(int(arguments[0]), arguments[1:] or targets())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
