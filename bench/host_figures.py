# SPDX-License-Identifier: Apache-2.0
"""What bench/run measures of the function host, by HTTP as its users do (groups as in figures.py)."""

import collections
import contextlib
import json
import os
import re
import select
import statistics
import subprocess
import time

import references
import stages
from figures import parts, stop, virga_template
from host import Connection, Host
from measure import (MEMORY_MIB, CannotMeasure, Echo, load, maps, process_tree, scratch,
                     settled_kib, vm_cycles)

RATE = 200  # requests a second of an open loop
RUN_PARTS = 4  # of a run, with a sample of each reference before them
TIER = "X-Virga-Tier"
BARE = 10                # bare shells that stand ready
BARE_LOOPS = (1, 2, 4, 16, 64, 128)  # VMs at once of bench/vm_cycle; the best of them counts
CONNECTIONS = 4          # of the closed loop: what this host's rate is best at on two CPUs
SUSTAINED, SUSTAINED_QUICK = (12, 5), (5, 1)  # parts of the closed loop, seconds of each
BURST, BURST_ARMED = 100, 20
IDLE_CLONES = (250, 500, 1000)
PSS_SAMPLES = 50
NO_POOL = {"min": 0, "max": 0}


def in_ms(runs):
    return [[us / 1000 for us in run] for run in runs]


def path(function):
    return f"/2015-03-31/functions/{function}/invocations"


def fallbacks(before, after, function):
    """{reason: how many} between two looks at the metrics."""
    found = {}
    for series, value in after.items():
        match = re.fullmatch(r'virga_fallbacks_total\{function="(.*)",reason="(.*)"\}', series)
        if match and match.group(1) == function and value > before.get(series, 0):
            found[match.group(2)] = int(value - before.get(series, 0))
    return found


class Series:
    """Open-loop runs against one function: latencies, and whether each went the way it should."""

    def __init__(self, host, function, tier, body="echo %n", expect="%n"):
        self.host, self.function, self.tier = host, function, tier
        self.body, self.expect = body, expect
        self.runs, self.faults = [], []

    def run(self, requests, between):
        """In parts, between() before each."""
        before, latencies, tiers = self.host.metrics(), [], collections.Counter()
        for size in parts(requests, RUN_PARTS):
            between()
            out = load("open", self.host.address, self.body, self.expect, path=path(self.function),
                       requests=size, rate=RATE, headers=[TIER])
            latencies += out["latencies_us"]
            tiers.update(out["headers"][TIER])
        self.runs.append(latencies)
        self.judge(tiers, fallbacks(before, self.host.metrics(), self.function))

    def judge(self, tiers, fell_back):
        others = {tier: count for tier, count in tiers.items() if tier != self.tier}
        if others or fell_back:
            said = [f"{count} by {tier or 'none'}" for tier, count in others.items()]
            said += [f"{count} fell back ({reason})" for reason, count in fell_back.items()]
            self.faults.append(f"run {len(self.runs)}: of {sum(tiers.values())} requests, to be "
                               f"served by {self.tier}: {', '.join(said)}")

    def report(self, results, figure):
        """Once the host has ended: its log is whole then."""
        latencies = [us for run in self.runs for us in run]
        results.columns[figure] = stages.split(stages.read(self.host.log, self.function), latencies)
        results.add_runs(figure, "virga", in_ms(self.runs))
        results.fault(figure, *self.faults)


def runs_of(n):
    """(runs, requests in each): five of 2000, fewer when n says that it shall be quick."""
    return (5 if n >= 100 else 3), 10 * n


def wait_armed(host, function, count):
    host.wait_for(f'virga_pool_armed{{function="{function}"}}', count)
    time.sleep(0.2)  # what it took to make them has ended


def vm_cycle_beside(results, host, function, armed):
    """A sample of vm_cycle while the host rests: all its clones stand and no other VM ends."""
    wait_armed(host, function, armed)
    results.beside("vm_cycle", references.vm_cycle)


def between_parts(results, host, resting, echo, alone):
    """
    What Series.run() calls: samples of vm_cycle, once the function `resting` has its clones, and of
    echo, whose latencies go into `alone`, us.
    """
    def samples():
        vm_cycle_beside(results, host, resting, 2)
        results.beside("echo", references.echo, echo, RATE, alone)
    return samples


def group_invoke(results, others, n):
    runs, requests = runs_of(n)
    with scratch() as work:
        template = virga_template(results.virga, work, "echo", "echo x")
        host = Host(work, {"armed": {"template": template},
                           "bare": {"template": template, "pool": NO_POOL}}, tcp=True,
                    program=[results.virga], builtin=False, bare=BARE)
        armed, bare = Series(host, "armed", "armed"), Series(host, "bare", "bare")
        alone = []
        with host, Echo() as echo:
            between = between_parts(results, host, "armed", echo, alone)
            for _ in range(runs):
                for series in (armed, bare):
                    series.run(requests, between)
        for figure, series in (("invoke_armed", armed), ("invoke_bare", bare)):
            series.report(results, figure)
            results.add(figure, "client-alone", [us / 1000 for us in alone])


def group_reset(results, others, n):
    pages = 256
    runs, requests = runs_of(n)
    with scratch() as work:
        template = virga_template(results.virga, work, "touch", f"touch {pages} 1")
        host = Host(work, {"reset": {"template": template, "policy": "reset"}}, tcp=True,
                    program=[results.virga], builtin=False)
        series = Series(host, "reset", "armed", f"touch {pages} 7", str(pages))
        with host, Echo() as echo:
            between = between_parts(results, host, "reset", echo, [])
            for _ in range(runs):
                series.run(requests, between)
        series.report(results, "invoke_reset_256_http")
        inside = stages.split_inside(stages.read(host.log, "reset"))
        if len(inside[stages.ALL]) < requests:
            raise CannotMeasure("the host's log does not say how long its resets took")
        results.add("invoke_reset_256", "virga", [us / 1000 for us in inside[stages.ALL]])
        results.columns["invoke_reset_256"] = inside


# --- Many at once ---

def sustained(results, others, n):
    """The rate and what its requests took, without what the rate is held against."""
    count, seconds = SUSTAINED if n >= 100 else SUSTAINED_QUICK
    found = []
    with scratch() as work:
        template = virga_template(results.virga, work, "echo", "echo x")
        host = Host(work, {"once": {"template": template}}, tcp=True,
                    program=[results.virga], builtin=False)
        with host:
            for _ in range(count):
                vm_cycle_beside(results, host, "once", 2)
                found.append(load("closed", host.address, "echo %n", "%n", path=path("once"),
                                  seconds=seconds, connections=CONNECTIONS, headers=[TIER]))
        columns = stages.split(stages.read(host.log, "once"))
    rate = sum(part["right"] for part in found) / sum(part["seconds"] for part in found)
    results.add("sustained", "virga", [rate])
    results.add("sustained_latency", "virga",
                [us / 1000 for part in found for us in part["latencies_us"]])
    tiers = collections.Counter(tier for part in found for tier in part["headers"][TIER])
    for figure in ("sustained", "sustained_ratio", "sustained_latency"):
        results.columns[figure] = columns
        results.note(figure, f"{CONNECTIONS} connections, {count} times {seconds} s; served by: " +
                     ", ".join(f"{tier} {number}" for tier, number in tiers.most_common()))
    return rate


def group_sustained(results, others, n):
    bare_loop = [vm_cycles(1, BARE_LOOPS)]
    rate = sustained(results, others, n)
    bare_loop.append(vm_cycles(1, BARE_LOOPS))
    best = max(bare_loop, key=lambda each: each["best"])
    for at_once in BARE_LOOPS:
        results.add("sustained", f"vm_cycle-at-{at_once}",
                    [each["rates"][str(at_once)] for each in bare_loop])
    results.add("sustained_ratio", "virga", [rate / best["best"]])


def group_burst(results, others, n):
    rounds, bursts, armed = max(20, n // 5), [], 0
    with scratch() as work:
        template = virga_template(results.virga, work, "echo", "echo x")
        host = Host(work, {"burst": {"template": template,
                                     "pool": {"min": BURST_ARMED, "max": BURST_ARMED}}},
                    tcp=True, program=[results.virga], builtin=False)
        with host:
            for size in parts(rounds):
                vm_cycle_beside(results, host, "burst", BURST_ARMED)
                out = load("burst", host.address, "echo %n", "%n", path=path("burst"),
                           requests=BURST, rounds=size, pause=500, headers=[TIER])
                bursts += out["bursts_us"]
                armed += out["headers"][TIER].count("armed")
        columns = stages.split(stages.read(host.log, "burst"))
    results.add("burst", "virga", [us / 1000 for us in bursts])
    results.columns["burst"] = columns
    if armed < rounds * BURST_ARMED:
        results.fault("burst", f"{armed} of {rounds * BURST_ARMED} armed clones were there when "
                               "their burst came")


def group_clones_1000(results, others, n):
    count, values = 1000, []
    with scratch() as work:
        template = virga_template(results.virga, work, "echo", "echo x")
        args = [results.virga, "clone", "-n", str(count), "--keep", "--request", "echo %i",
                "--json", template]
        for _ in range(max(5, n // 20)):
            results.beside("vm_cycle", references.vm_cycle)
            begin = time.monotonic()
            clones = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                lines, text = 0, b""
                while lines < count and (part := os.read(clones.stdout.fileno(), 1 << 16)):
                    lines += part.count(b"\n")
                    text += part
                values.append((time.monotonic() - begin))
                alive = len(process_tree(clones.pid)) - 1
                right = sum(1 for line in text.splitlines() if json.loads(line)["status"] == 0)
                if right < count or alive < count:
                    raise CannotMeasure(f"of {count} clones {right} answered and {alive} stood at "
                                        "the end")
            finally:
                stop(clones)
                clones.stdout.close()
                clones.stderr.close()
            time.sleep(0.5)
    results.add("clones_1000", "virga", values)


# --- What stays, and what goes ---

def write_set_kib(virga, template):
    done = subprocess.run([virga, "inspect", "--json", template], capture_output=True, text=True)
    found = re.search(r'"written_pages": (\d+)', done.stdout)
    if not found:
        raise CannotMeasure(f"virga inspect does not tell the working set of {template}")
    return 4 * int(found.group(1))


def idle_clones(virga, work, template, count):
    """(MemAvailable KiB, [Pss KiB of one]) while so many armed clones wait."""
    with Host(work, {"idle": {"template": template, "pool": {"min": count, "max": count,
                                                             "refill": 100000}}},
              program=[virga], builtin=False, bare=0, shells=count + 8) as host:
        wait_armed(host, "idle", count)
        return settled_kib(), [sum(each[2] for each in maps(pid))
                               for pid in host.shells()[:PSS_SAMPLES]]


def memory_taken(virga, work, template):
    """([(clones, KiB of MemAvailable that they take)], [Pss KiB of one])."""
    without, during, pss = [settled_kib()], [], []
    for count in IDLE_CLONES:
        available, own = idle_clones(virga, work, template, count)
        during.append(available)
        pss += own
        without.append(settled_kib())
    return [(count, (before + after) / 2 - available) for count, before, available, after
            in zip(IDLE_CLONES, without, during, without[1:])], pss


def slope(points):
    """Of the straight line through points (x, y), by least squares."""
    middle_x = statistics.mean(x for x, _ in points)
    middle_y = statistics.mean(y for _, y in points)
    return (sum((x - middle_x) * (y - middle_y) for x, y in points) /
            sum((x - middle_x) ** 2 for x, _ in points))


def group_memory_of_clones(results, others, n):
    for figure, size in (("clone_kernel", MEMORY_MIB), ("clone_kernel_16m", 16)):
        kernel, pss = [], []
        with scratch() as work:
            template = virga_template(results.virga, work, "echo", "echo x", memory_mib=size)
            write_set = write_set_kib(results.virga, template)
            for _ in range(3 if n >= 100 else 1):
                points, own = memory_taken(results.virga, work, template)
                kernel.append((slope(points) - statistics.median(own)) / 1024)
                pss += own
        results.add(figure, "virga", kernel)
        results.note(figure, f"without its Pss, which is {statistics.median(pss):.0f} KiB, "
                             f"{write_set} of them its write set")
        if size == MEMORY_MIB:
            results.add("clone_memory", "virga", [kib - write_set for kib in pss])
            results.add("clone_memory", "whole-Pss", pss)


def wait_for_end(descriptors, timeout_s=5):
    """When the first of the processes ended (monotonic); None after the time-out."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return time.monotonic() if poll.poll(timeout_s * 1000) else None


def one_teardown(host, connection, function):
    """ms. The end of a process is seen when its descriptors are closed and its memory unmapped."""
    wait_armed(host, function, 2)
    with contextlib.ExitStack() as stack:
        descriptors = [os.pidfd_open(pid) for pid in host.shells()]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        connection.request("POST", path(function), "echo x")
        connection.getresponse().read()
        answered = time.monotonic()
        ended = wait_for_end(descriptors)
    if ended is None:
        raise CannotMeasure("no machine had ended 5 s after its answer")
    return (ended - answered) * 1000


def group_teardown(results, others, n):
    values = []
    with scratch() as work:
        template = virga_template(results.virga, work, "echo", "echo x")
        with Host(work, {"once": {"template": template}}, program=[results.virga],
                  builtin=False) as host:
            connection = Connection(host.address)
            for size in parts(max(20, n // 2)):
                vm_cycle_beside(results, host, "once", 2)
                values += [one_teardown(host, connection, "once") for _ in range(size)]
            connection.close()
    results.add("teardown", "virga", values)


GROUPS = [
    (["invoke_armed", "invoke_bare"], group_invoke, False),
    (["invoke_reset_256", "invoke_reset_256_http"], group_reset, False),
    (["clones_1000"], group_clones_1000, False),
    (["clone_memory", "clone_kernel", "clone_kernel_16m"], group_memory_of_clones, False),
    (["sustained", "sustained_ratio", "sustained_latency"], group_sustained, False),
    (["burst"], group_burst, False),
    (["teardown"], group_teardown, False),
]
