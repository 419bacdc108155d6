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
import limits  # pylint: disable=wrong-import-position
import measure  # pylint: disable=wrong-import-position
import references  # pylint: disable=wrong-import-position
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


# --- the table of limits

TABLE = """
# a note
reference slow 1.5  what it is
reference other 3   another

time   p50  slow  2    ms  a time
time   p99  slow  5    ms
long   p50  slow  -    s   a time without a limit
count  p50  -     >10  KiB a count
times  p50  -     1.1  x   a ratio
"""


def test_a_table_of_limits():
    budgets = limits.parse(TABLE, "t")
    assert budgets.references == {"slow": (1.5, "what it is"), "other": (3, "another")}
    assert list(budgets.figures) == ["time", "long", "count", "times"]
    assert budgets.figures["time"] == ("ms", "slow", "a time",
                                       {"p50": (2, False), "p99": (5, False)})
    assert budgets.figures["long"] == ("s", "slow", "a time without a limit", {})
    assert budgets.figures["count"] == ("KiB", None, "a count", {"p50": (10, True)})


@pytest.mark.parametrize("line, said", [
    ("reference third 2", "a reference is 'reference NAME BOUND WHAT'"),
    ("reference third much what", "'much' is no bound: give a number above 0"),
    ("reference third 0.5 what", "reference third has the bound 0.5: p90/p10 is never below 1"),
    ("reference slow 2 what", "reference slow stands twice"),
    ("new p50 slow 2", "a figure is 'FIGURE STATISTIC REFERENCE LIMIT UNIT WHAT'"),
    ("new mean slow 2 ms what", "new: 'mean' is no statistic: p50, p99, p99.9"),
    ("new p50 quick 2 ms what", "new: there is no reference 'quick' above it"),
    ("new p50 - 2 ms what", "new: a time (ms) needs a reference"),
    ("new p50 - - s what", "new: a time (s) needs a reference"),
    ("new p50 slow 2 KiB what", "new: KiB is no time: its reference is -"),
    ("new p50 slow 2 ms", "new: its first line does not say what it is"),
    ("time p99.9 other 2 ms", "time: another unit or reference than in its first line"),
    ("time p99.9 slow 2 s", "time: another unit or reference than in its first line"),
    ("time p99 slow 6 ms", "time: p99 has a limit already"),
    ("new p50 slow 2x ms what", "'2x' is no limit: give a number above 0"),
    ("new p50 slow 0 ms what", "'0' is no limit"), ("new p50 slow nan ms what", "'nan' is no limit"),
    ("new p50 slow >inf ms what", "'inf' is no limit"), ("new p50 slow > ms what", "'' is no limit"),
])
def test_a_line_that_sets_no_limit(line, said):
    with pytest.raises(limits.BadBudgets) as error:
        limits.parse(TABLE + line, "t")
    assert str(error.value).startswith(f"t:{len(TABLE.splitlines()) + 1}: {said}")


def test_budgets_are_of_figures_and_figures_of_budgets():
    budgets = run.read_budgets()
    measured = [name for names, _, _ in figures.GROUPS + host_figures.GROUPS for name in names]
    assert sorted(measured) == sorted(budgets.figures) and len(measured) == len(set(measured))
    used = {budget.reference for budget in budgets.figures.values() if budget.reference}
    assert used == set(budgets.references)
    assert set(budgets.figures["invoke_armed"].limits) == {"p50", "p99"}
    assert budgets.figures["teardown"].limits == {}


# --- what a figure is by it


def steady(name="slow", ms=10, bound=1.5):
    return {name: limits.Measured(name, limits.Reference(bound, ""), [ms] * 20)}


def uneven(name="slow", bound=1.5):
    """p90/p10 is 2."""
    return {name: limits.Measured(name, limits.Reference(bound, ""), [5] * 4 + [10] * 16)}


def judged(figure, found, held_against, faults=()):
    return limits.judge(found, limits.parse(TABLE, "t").figures[figure], held_against, faults)


def test_a_reference_is_its_median_and_its_spread():
    found = limits.Measured("r", limits.Reference(2, ""), [9, 1, 2, 3, 4, 5, 6, 7, 8, 10])
    assert (found.p50, found.spread, found.n) == (5, 9, 10)
    assert found.unevenness() == 4.5 and limits.worst({"r": found}) is found
    assert limits.worst(uneven(bound=2)) is None  # at its bound is within
    assert limits.worst({**uneven("a"), **uneven("b", 1.2), **steady("c")}).name == "b"


@pytest.mark.parametrize("figure, found, verdict", [
    ("time", {"p50": 20, "p99": 50}, limits.MET), ("time", {"p50": 20.1, "p99": 50}, limits.MISSED),
    ("time", {"p50": 20, "p99": 50.1}, limits.MISSED), ("long", {"p50": 9}, limits.NO_LIMIT),
    ("count", {"p50": 10}, limits.MET), ("count", {"p50": 9.9}, limits.MISSED),
    ("times", {"p50": 1.1}, limits.MET), ("times", {"p50": 1.2}, limits.MISSED),
])
def test_what_meets_a_limit(figure, found, verdict):
    assert judged(figure, found, steady()).verdict == verdict
    assert judged(figure, found, steady(), ["3 fell back"]).verdict == limits.MISSED


def test_a_limit_in_the_unit_of_the_figure():
    """A machine that is half as fast may take twice as long, and the ratio is the same."""
    found = judged("time", {"p50": 15, "p99": 40, "min": 1}, steady())
    assert (found.now, found.ratios) == ({"p50": 20, "p99": 50}, {"p50": 1.5, "p99": 4})
    found = judged("time", {"p50": 30, "p99": 80}, steady(ms=20))
    assert (found.now, found.ratios) == ({"p50": 40, "p99": 100}, {"p50": 1.5, "p99": 4})
    assert judged("long", {"p50": 3}, steady()).ratios == {"p50": 300}  # s over ms
    found = judged("count", {"p50": 12}, {})
    assert (found.now, found.ratios) == ({"p50": 10}, {})


@pytest.mark.parametrize("figure, verdict", [
    ("time", limits.NOT_JUDGED), ("times", limits.NOT_JUDGED), ("count", limits.MET),
    ("long", limits.NO_LIMIT),
])
def test_an_uneven_machine_judges_no_time(figure, verdict):
    found = {"p50": 100, "p99": 100} if figure == "count" else {"p50": 0.1, "p99": 0.1}
    assert judged(figure, found, uneven()).verdict == verdict
    assert judged(figure, found, {**steady(), **uneven("other")}).verdict == verdict
    assert (judged(figure, found, uneven(), ["3 fell back"]).verdict ==
            (verdict if verdict == limits.NOT_JUDGED else limits.MISSED))


def test_a_time_without_its_reference_cannot_be_judged():
    with pytest.raises(measure.CannotMeasure, match="slow was not measured beside it"):
        judged("time", {"p50": 1, "p99": 1}, steady("other"))


# --- what is measured again, and printed


class PlayedReference:
    """A group whose figure `time` is 10 and more by one each time; the references beside it."""

    def __init__(self, *tries, faults=(), p50=10.0):
        self.tries, self.faults, self.p50, self.count = iter(tries), faults, p50, 0

    def __call__(self, results=None, others=(), n=1):
        results = results or figures.Results()
        for ms in next(self.tries):
            results.beside("slow", lambda ms=ms: ms)
        results.add("time", "virga", [self.p50 + self.count])
        results.add("time", "other", [5])
        results.fault("time", *self.faults)
        results.note("time", "a note")
        results.columns["time"] = stages.split([line(sent=5, done=200)], [900])
        self.count += 1
        return results


STEADY, UNEVEN, WORSE = [10] * 10, [5] * 4 + [10] * 6, [1] * 4 + [10] * 6


def chosen(*names):
    return {name: limits.parse(TABLE, "t").figures[name] for name in names}


@pytest.mark.parametrize("tries, p50, spreads", [
    ([STEADY], 10, []), ([WORSE, STEADY], 11, []), ([UNEVEN, WORSE, STEADY], 12, []),
    ([WORSE, UNEVEN, WORSE], 11, [10, 2, 10]), ([UNEVEN, WORSE, WORSE], 10, [2, 10, 10]),
])
def test_an_uneven_machine_is_tried_three_times(tries, p50, spreads, capsys):
    played = PlayedReference(*tries)
    found = run.measure_steady(chosen("time"), limits.parse(TABLE, "t").references, played)
    assert (found[0].values["time"]["virga"]["p50"], found[1]) == (p50, spreads)
    assert played.count == len(tries)
    if tries[0] is WORSE:
        assert ("time: try 1 of 3: p90/p10 of slow is 10.00, and to judge by it 1.5 at most"
                in capsys.readouterr().err)


def test_what_has_no_limit_in_time_is_measured_once():
    played = PlayedReference(WORSE)
    assert run.measure_steady(chosen("long", "count"), limits.parse(TABLE, "t").references,
                              played)[1] == []


def entry_of(samples=(10,), **kwargs):
    budgets, results = limits.parse(TABLE, "t"), PlayedReference(samples, **kwargs)()
    return run.result(results, "time", budgets.figures["time"],
                      limits.measured(budgets.references, results.references), {"other": "1.2"})


def test_a_figure_as_json():
    entry = json.loads(json.dumps(entry_of(p50=15.0)))
    assert entry["peers"] == [{"name": "other", "version": "1.2", "n": 1, "min": 5, "p50": 5,
                               "p99": 5}]
    assert entry["reference"] == {"name": "slow", "bound": 1.5, "n": 1, "p50": 10, "spread": 1}
    assert (entry["p50"], entry["ratio"]["p50"], entry["verdict"]) == (15, 1.5, "met")
    assert (entry["limit"], entry["limit_now"]) == ({"p50": 2, "p99": 5}, {"p50": 20, "p99": 50})
    entry = entry_of(faults=["3 fell back"])
    assert entry["verdict"] == "missed" and entry["explanation"][0] == "3 fell back"


def test_a_figure_as_a_line(capsys):
    run.print_line(entry_of(p50=15.0), False)
    words = capsys.readouterr().out.split()
    assert words == ["time", "ms", "1", *["15"] * 3, "-", "1.50/p99", "1.50", "2/p99", "5", "20/p99",
                     "50", "met", "other", "5", "/", "5"]
    budgets, results = limits.parse(TABLE, "t"), figures.Results()
    results.add("count", "virga", [12])
    run.print_line(run.result(results, "count", budgets.figures["count"], {}, {}), False)
    assert capsys.readouterr().out.split() == ["count", "KiB", "1", *["12"] * 3, "-", "-", ">=10",
                                               "-", "met"]


def test_what_is_missed_is_followed_by_why(capsys):
    run.print_line(entry_of(), False)
    assert " met" in (out := capsys.readouterr().out) and len(out.splitlines()) == 1
    run.print_line(entry_of(), True)
    assert "a note" in capsys.readouterr().out
    run.print_line(entry_of((0.3,)), False)  # the limit is 0.6 ms now
    out = capsys.readouterr().out
    assert "MISSED" in out and "a note" in out and "1 of 1 requests took longer than 600 us" in out


@pytest.mark.parametrize("tries, p50, strict, last", [
    ([STEADY], 10.0, 0, None), ([STEADY], 25.0, 1, "missed: time"),
    ([UNEVEN] * 3, 10.0, 3, "not judged: time"), ([UNEVEN] * 3, 25.0, 3, "not judged: time"),
])
def test_the_status_of_a_run(tries, p50, strict, last, monkeypatch, capsys, tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "budgets").write_text(TABLE)
    monkeypatch.setattr(measure, "ROOT", str(tmp_path))
    monkeypatch.setattr(measure, "VIRGA", sys.executable)
    monkeypatch.setattr(measure, "GUEST", sys.executable)
    monkeypatch.setattr(figures, "peers", lambda everyone: [])
    monkeypatch.setattr(host_figures, "GROUPS", [])
    for words, expected in (["--strict"], strict), ([], 0):
        monkeypatch.setattr(figures, "GROUPS", [(["time"], PlayedReference(*tries, p50=p50), False)])
        monkeypatch.setattr(sys, "argv", ["run", "time", "--json", str(tmp_path / "json"), *words])
        assert run.main() == expected
        lines = capsys.readouterr().out.splitlines()
        assert any(each.startswith("    slow: ") and "n 10" in each for each in lines)
        assert lines[-1] == last or last is None
        verdict = json.loads((tmp_path / "json").read_text())["results"][0]["verdict"]
        assert (verdict or "met") == (last or "met").split(":")[0]
    assert bool(strict == 3) == any("in 3 tries" in each for each in lines)


@pytest.mark.parametrize("verdicts, failed, strict, always", [
    (["met", ""], False, 0, 0), (["missed", "not judged"], False, 1, 0),
    (["met", "not judged"], False, 3, 0), (["not judged"], True, 1, 1), ([], True, 1, 1),
])
def test_what_cannot_be_measured_or_is_missed_goes_before(verdicts, failed, strict, always):
    entries = [{"name": "f", "verdict": verdict} for verdict in verdicts]
    assert run.status(entries, failed, True) == strict
    assert run.status(entries, failed, False) == always


def test_a_table_that_is_none_ends_the_run(monkeypatch, capsys, tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "budgets").write_text("time p50 - 1 ms what\n")
    monkeypatch.setattr(measure, "ROOT", str(tmp_path))
    assert run.main() == 1
    assert capsys.readouterr().err == ("bench/run: bench/budgets:1: time: a time (ms) needs a "
                                       "reference\n")


# --- references


def test_parts_are_all_of_it():
    assert figures.parts(200) == [10] * 20
    assert figures.parts(5) == [1] * 5
    assert figures.parts(10, 4) == [3, 3, 2, 2]


def test_who_compares_measures_no_reference():
    results = figures.Results(with_references=False)
    results.beside("slow", pytest.fail, "it was measured")
    assert results.references == {}


def test_the_bytes_of_a_snapshot_are_those_on_disk(tmp_path):
    with open(tmp_path / "b", "wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(8 << 20)
    (tmp_path / "a").write_bytes(b"y" * 100)
    assert references.written_bytes(tmp_path) == b"y" * 100 + b"x" * 4096


def test_references_take_time_and_leave_nothing(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"x" * 10000)
    assert references.write_sync(tmp_path, tmp_path / "source") > 0
    assert list(tmp_path.iterdir()) == [tmp_path / "source"]
    latencies = []
    with measure.Echo() as echo:
        assert references.echo(echo, 1000, latencies) > 0
    assert len(latencies) == references.ECHO_REQUESTS
    with measure.scratch() as folder:
        assert references.disk_read(folder) > 0 and references.disk_read(folder) > 0
    if not kvm_problem():
        assert 0 < references.vm_cycle() < 10000


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
        self.tiers = [tier for tiers, _ in runs for tier in tiers]
        self.counters, self.fell_back, self.looks = [count for _, count in runs], 0, 0
        monkeypatch.setattr(host_figures, "load", self.load)

    def load(self, mode, to, body, expect, **options):
        size = options["requests"]
        tiers, self.tiers = self.tiers[:size], self.tiers[size:]
        assert mode == "open" and options["rate"] == 200
        return {"latencies_us": [100.0] * size, "headers": {"X-Virga-Tier": tiers}}

    def metrics(self):
        """Asked before a run and after it."""
        if self.looks % 2:
            self.fell_back += self.counters.pop(0)
        self.looks += 1
        return {'virga_fallbacks_total{function="f",reason="no_shell"}': self.fell_back}


def test_a_run_with_a_fall_back_says_so(monkeypatch):
    played = PlayedHost(monkeypatch, (["armed"] * 5, 0), (["armed"] * 3 + ["built", "bare"], 1),
                        (["armed"] * 5, 0))
    series, between = host_figures.Series(played, "f", "armed"), []
    for _ in range(3):
        series.run(5, lambda: between.append(len(played.tiers)))
    assert [len(each) for each in series.runs] == [5, 5, 5]
    assert between == [15, 13, 12, 11, 10, 8, 7, 6, 5, 3, 2, 1]  # before each part
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
        assert all(figure in budgets.figures for figure in names.values())


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
    """One short round of a figure with machines, which has no grace to keep, and one without."""
    if kvm_problem():
        pytest.skip(kvm_problem())
    other = shutil.copy(virga, tmp_path / "other")
    with open(other, "ab") as file:
        file.write(bytes(virga.stat().st_size))  # twice as large, and otherwise the same
    done = subprocess.run([BENCH / "compare", "--rounds", "1", "--json", tmp_path / "json", virga,
                           other, "binary_size", "snapshot_write"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    write, size = json.loads((tmp_path / "json").read_text())["results"]
    assert (write["name"], write["rounds"], write["faults"]) == ("snapshot_write", 1, [])
    assert write["ratio"] == pytest.approx(write["new"] / write["old"]) and write["old"] > 0
    assert (size["name"], size["ratio"]) == ("binary_size", 2)
    assert "snapshot_write: round 1 of 1" in done.stderr
    assert [each.split()[0] for each in done.stdout.splitlines()[2:]] == ["snapshot_write",
                                                                          "binary_size"]
