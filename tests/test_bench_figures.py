# SPDX-License-Identifier: Apache-2.0
"""
What bench/run makes of what it measured: limits, stages of the host's log, fall-backs, slopes; and
bench/compare of two builds.
"""

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import kvm_problem

BENCH = Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))
import figures  # pylint: disable=wrong-import-position
import host  # pylint: disable=wrong-import-position
import host_figures  # pylint: disable=wrong-import-position
import measure  # pylint: disable=wrong-import-position
import stages  # pylint: disable=wrong-import-position


def load_program(name):
    loader = importlib.machinery.SourceFileLoader(f"bench_{name}", str(BENCH / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


run, compare = load_program("run"), load_program("compare")


# --- statistics


def test_summary():
    values = list(range(1, 1001))
    assert measure.summary(values) == {"n": 1000, "min": 1, "p50": 500.5, "p99": 990, "p99.9": 999}
    assert "p99.9" not in measure.summary(values[:999])
    assert measure.summary([7]) == {"n": 1, "min": 7, "p50": 7, "p99": 7}


def test_summary_of_runs_is_made_of_medians():
    found = measure.summary_of_runs([[1] * 99 + [50], [2] * 99 + [9], [3] * 99 + [8]])
    assert found == {"n": 300, "min": 1, "runs": 3, "p50": 2, "p99": 2}
    found = measure.summary_of_runs([[1] * 98 + [5, 5], [2] * 98 + [70, 70], [3] * 98 + [9, 9]])
    assert (found["p50"], found["p99"]) == (2, 9)


def test_slope():
    points = [(250, 260), (500, 510), (1000, 1010)]
    assert host_figures.slope(points) == pytest.approx(1)
    assert host_figures.slope([(x, 3 * y) for x, y in points]) == pytest.approx(3)


def test_settled_memory(monkeypatch):
    """It waits until nothing comes back any more, and takes what there is when it never ends."""
    looks = iter([1000, 9000, 50000, 90000] + [100000, 100100] * 20)
    monkeypatch.setattr(measure, "available_kib", lambda: next(looks))
    monkeypatch.setattr(measure.time, "sleep", lambda _: None)
    assert measure.settled_kib() == 100050
    rising = iter(range(0, 10**9, 5000))
    clock = iter(range(1000))
    monkeypatch.setattr(measure, "available_kib", lambda: next(rising))
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    assert 50000 < measure.settled_kib(timeout_s=20) < 110000


# --- limits


def test_budgets_are_of_figures_and_figures_of_budgets():
    budgets = run.read_budgets()
    measured = [name for names, _, _ in figures.GROUPS + host_figures.GROUPS for name in names]
    assert sorted(measured) == sorted(budgets) and len(measured) == len(set(measured))
    assert budgets["sustained_ratio"]["limits"] == {"p50": (0.75, True)}
    assert budgets["invoke_armed"]["limits"] == {"p50": (0.3, False), "p99": (0.8, False)}
    assert budgets["teardown"]["limits"] == {}


@pytest.mark.parametrize("limits, met", [
    ({}, True), ({"p50": (2, False)}, True), ({"p50": (1.9, False)}, False),
    ({"p50": (2, False), "p99": (3, False)}, False), ({"p50": (2, True)}, True),
    ({"p50": (2.1, True)}, False),
])
def test_what_meets_a_limit(limits, met):
    assert run.is_met({"p50": 2, "p99": 4}, limits) == met


def entry_of(faults=(), p50=0.2):
    results = figures.Results()
    results.add("f", "virga", [p50])
    results.add("f", "other", [5])
    results.fault("f", *faults)
    results.note("f", "a note")
    results.columns["f"] = stages.split([line(sent=5, done=200)], [900])
    budget = {"unit": "ms", "limits": {"p50": (0.3, False)}}
    return run.result(results, "f", budget, {"other": "1.2"}), budget["limits"]


def test_a_figure_with_a_fault_is_missed_whatever_it_is():
    assert entry_of()[0]["ok"]
    entry, _ = entry_of(["3 fell back"])
    assert not entry["ok"] and entry["explanation"][0] == "3 fell back"
    assert entry["limit_p50"] == entry["limit"] == 0.3
    assert entry["peers"] == [{"name": "other", "version": "1.2", "n": 1, "min": 5, "p50": 5,
                               "p99": 5}]


def test_what_is_missed_is_followed_by_why(capsys):
    run.print_line(*entry_of(), False)
    assert "met" in (out := capsys.readouterr().out) and len(out.splitlines()) == 1
    run.print_line(*entry_of(), True)
    assert "a note" in capsys.readouterr().out
    run.print_line(*entry_of(p50=0.4), False)
    out = capsys.readouterr().out
    assert "MISSED" in out and "a note" in out and "1 of 1 requests took longer than 300 us" in out
    assert json.dumps(entry_of()[0])


# --- stages


def line(function="f", **us):
    return {"function": function, "us": us}


def test_log_lines_of_one_function(tmp_path):
    log = tmp_path / "log"
    log.write_text("virga: something\n" + json.dumps(line("a", done=1)) + "\n" +
                   json.dumps(line("b", done=2)) + "\n" + json.dumps(line("a", done=3)) + "\n")
    assert [entry["us"]["done"] for entry in stages.read(log, "a")] == [1, 3]
    log.write_text('{"function": "a", "us"\n')
    with pytest.raises(measure.CannotMeasure, match="log:1: is no JSON"):
        stages.read(log, "a")


def test_stages_add_up():
    entries = [line(sent=5, received=15, mapped=15, entered=20, answered=90, done=120),
               line(sent=6, received=26, mapped=26, entered=30, answered=99, done=121)]
    columns = stages.split(entries, [150, 150.5])
    assert columns == {"client": [30, 29.5], "sent": [5, 6], "received": [10, 20],
                       "entered": [5, 4], "answered": [70, 69], "done": [30, 22],
                       "all": [120, 121]}
    assert "client" not in stages.split(entries, [150])  # not those of these requests
    rows = stages.table(columns)
    assert len(rows) == 1 + len(columns)
    assert rows[-1].split()[:4] == ["all", "120", "120", "121"]


def test_a_request_that_reached_no_shell_has_stages_too():
    assert stages.split([line(done=7)]) == {"done": [7], "all": [7]}


def test_stages_inside_a_shell_that_was_reset():
    entries = [{**line(sent=5, received=15, entered=20, answered=60, done=90), "reset_us": 100},
               line(sent=5, received=15, entered=20, answered=60, done=90)]
    assert stages.split_inside(entries) == {"reset": [100], "entered": [5], "answered": [40],
                                            "all": [145]}


def test_blame():
    usual = [line(sent=5, received=15, answered=90, done=120)] * 98
    slow = [line(sent=5, received=815, answered=890, done=920),
            line(sent=5, received=15, answered=90, done=720)]
    columns = stages.split(usual + slow, [150] * 98 + [950, 750])
    said = stages.blame(columns, 700)
    assert said.startswith("2 of 100 requests took longer than 700 us")
    assert "received 1 (800 us more than usual)" in said and "done 1 (600 us" in said
    assert stages.blame(columns, 951) == "none of 100 requests took longer than 951 us"


# --- the host's counters


def test_fallbacks():
    def series(function, reason):
        return f'virga_fallbacks_total{{function="{function}",reason="{reason}"}}'

    before = {series("f", "bare"): 2, series("f", "no_shell"): 1, series("g", "bare"): 0}
    after = {series("f", "bare"): 5, series("f", "no_shell"): 1, series("g", "bare"): 9,
             series("f", "no_working_set"): 1, "virga_shells": 3}
    assert host_figures.fallbacks(before, after, "f") == {"bare": 3, "no_working_set": 1}


class PlayedHost:
    """Answers of a host: the tiers of the requests of each run, and its counters after it."""

    address = "127.0.0.1:1"

    def __init__(self, monkeypatch, *runs):
        self.counters, self.fell_back = iter(runs), 0
        monkeypatch.setattr(host_figures, "load", self.load)

    def load(self, mode, to, body, expect, **options):
        tiers, fell_back = next(self.counters)
        self.fell_back += fell_back
        assert mode == "open" and options["rate"] == 200 and len(tiers) == options["requests"]
        return {"latencies_us": [100.0] * len(tiers), "headers": {"X-Virga-Tier": tiers}}

    def metrics(self):
        return {'virga_fallbacks_total{function="f",reason="no_shell"}': self.fell_back}


def test_a_run_with_a_fall_back_says_so(monkeypatch):
    played = PlayedHost(monkeypatch, (["armed"] * 5, 0), (["armed"] * 3 + ["built", "bare"], 1),
                        (["armed"] * 5, 0))
    series = host_figures.Series(played, "f", "armed")
    for _ in range(3):
        series.run(5)
    assert [len(each) for each in series.runs] == [5, 5, 5]
    assert series.faults == ["run 2: of 5 requests, to be served by armed: 1 by built, 1 by bare, "
                             "1 fell back (no_shell)"]


def test_a_host_has_the_settings_that_it_was_given(tmp_path):
    script = ("import json, sys; words = dict(zip(sys.argv[2::2], sys.argv[3::2]));"
              "sys.exit(open(words['--config']).read())")
    one = host.Host(str(tmp_path), {"f": {}}, program=[sys.executable, "-c", script], bare=7,
                    builtin=False)
    with pytest.raises(measure.CannotMeasure) as error:
        one.start()
    said = str(error.value)
    assert json.loads(said[said.index("{"):]) == {"builtin": False, "bare": 7,
                                                  "functions": {"f": {}}}


def test_the_end_of_a_process_is_seen():
    with subprocess.Popen(["sleep", "60"]) as stays, subprocess.Popen(["sleep", "0.05"]) as ends:
        begin = time.monotonic()
        descriptors = [measure.os.pidfd_open(each.pid) for each in (stays, ends)]
        try:
            assert 0.01 < host_figures.wait_for_end(descriptors) - begin < 5
            assert host_figures.wait_for_end(descriptors[:1], timeout_s=0.05) is None
        finally:
            stays.kill()
            for descriptor in descriptors:
                measure.os.close(descriptor)


def test_a_process_and_its_descendants():
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], stdout=subprocess.PIPE) as parent:
        deadline, names = time.monotonic() + 10, []
        while names != ["sh", "sleep"] and time.monotonic() < deadline:
            tree = measure.process_tree(parent.pid)
            names = [measure.process_name(pid) for pid in tree]
            time.sleep(0.01)
        try:
            assert names == ["sh", "sleep"]
        finally:
            for pid in reversed(tree):
                measure.os.kill(pid, 9)
    assert measure.process_tree(parent.pid) == [parent.pid]
    assert measure.process_name(parent.pid) == ""


# --- two builds side by side


class PlayedGroup:
    """A group whose figure takes so long for each program in each round; notes who came when."""

    def __init__(self, **values):
        self.values, self.asked = {name: iter(each) for name, each in values.items()}, []

    def __call__(self, results, others, n):
        self.asked.append(results.virga)
        results.add("g", "virga", [next(self.values[results.virga])] * n)
        if len(self.asked) == 3:
            results.fault("g", "2 fell back")


def test_ratio_and_spread():
    found = compare.compared([(1.0, 1.1), (4.0, 4.0), (2.0, 1.8)])
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (1.0, 0.9, 1.1)
    assert (found["old"], found["new"], found["rounds"]) == (2.0, 1.8, 3)


def test_a_machine_that_slows_down_slows_both(capsys):
    group = PlayedGroup(a=[1, 2, 4, 8], b=[2, 4, 8, 16])
    found = compare.measure_group(["a", "b"], {"f": "g"}, group, 3, 4)["f"]
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (2, 2, 2)
    assert group.asked == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert found["samples"] == [[1, 2], [2, 4], [4, 8], [8, 16]]
    assert found["faults"] == ["round 2, new: 2 fell back"]
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[-1] == "compare: f: round 4 of 4"


def test_what_cannot_be_measured_says_which_program():
    def group(results, others, n):
        raise measure.CannotMeasure("no answer")

    with pytest.raises(measure.CannotMeasure, match="^b: no answer$"):
        compare.one_round(["a", "b"], (compare.NEW, compare.OLD), group, 1)


def test_names_are_of_figures_with_a_budget():
    budgets = run.read_budgets()
    for names, _, _ in compare.GROUPS:
        assert all(figure in budgets for figure in names.values())


@pytest.mark.parametrize("args, said", [
    (["{virga}", "{virga}", "speed"], "no figure speed; there are: invoke_armed"),
    (["{virga}", "/nowhere/virga"], "/nowhere/virga version` does not run (No such file"),
    (["/bin/true", "{virga}"], "/bin/true version` does not run (status 0): name a virga"),
    (["--rounds", "0", "{virga}", "{virga}"], "'0' is no number of rounds: give 1 or more"),
])
def test_what_cannot_be_compared(args, said, virga):
    done = subprocess.run([BENCH / "compare", *(each.format(virga=virga) for each in args)],
                          capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert said in done.stderr.splitlines()[-1]


def test_a_build_compared_with_itself(virga, tmp_path):
    """One short round of a figure with machines and one without."""
    if kvm_problem():
        pytest.skip(kvm_problem())
    other = shutil.copy(virga, tmp_path / "other")
    with open(other, "ab") as file:
        file.write(bytes(virga.stat().st_size))  # twice as large, and otherwise the same
    done = subprocess.run([BENCH / "compare", "--rounds", "1", "--json", tmp_path / "json", virga,
                           other, "binary_size", "cold_boot"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    boot, size = json.loads((tmp_path / "json").read_text())["results"]
    assert (boot["name"], boot["rounds"], boot["faults"]) == ("cold_boot", 1, [])
    assert boot["ratio"] == pytest.approx(boot["new"] / boot["old"]) and boot["old"] > 0
    assert (size["name"], size["ratio"]) == ("binary_size", 2)
    assert "cold_boot: round 1 of 1" in done.stderr
    assert [each.split()[0] for each in done.stdout.splitlines()[2:]] == ["cold_boot",
                                                                          "binary_size"]
