# SPDX-License-Identifier: Apache-2.0
"""Where the time of an invocation went: the log lines of `virga serve`, as tables."""

import json
import statistics

from measure import CannotMeasure, percentile

# In the order in which they happen: what the log calls the end of the stage, and what it is.
STAGES = {
    "sent": "front: request read and parsed, a shell chosen",
    "received": "message to the shell, its wake-up",
    "mapped": "template mapped over the shell's memory",
    "populated": "pages that are known to be written copied",
    "loaded": "state of vCPU and devices",
    "entered": "identity and request into the guest's queue",
    "answered": "KVM_RUN, the guest, its answer taken",
    "done": "message to the front, its wake-up, answer sent",
}
RESET, CLIENT, ALL = "reset", "client", "all"
WHAT = {RESET: "memory and state as the template has them, before the request",
        CLIENT: "client and socket: what its latency has beyond `all`",
        **STAGES, ALL: "all of these but the client's"}


def read(path, function):
    """The log lines of a function's invocations, in the order of their ends."""
    found = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.startswith("{"):
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                raise CannotMeasure(f"{path}:{number}: is no JSON: {line.strip()}") from None
            if entry["function"] == function:
                found.append(entry)
    return found


def split(entries, latencies_us=()):
    """
    {stage: [us]}, one value for each entry. With the latencies that the client saw, in the same
    order, CLIENT is what they have beyond the host's time.
    """
    columns = {name: [] for name in STAGES}
    for entry in entries:
        before = 0
        for name in STAGES:
            at = entry["us"].get(name, before)
            columns[name].append(at - before)
            before = at
    columns = {name: values for name, values in columns.items()
               if values and percentile(values, 99)}
    columns[ALL] = [entry["us"]["done"] for entry in entries]
    if len(latencies_us) == len(entries) and entries:
        client = [seen - own for seen, own in zip(latencies_us, columns[ALL])]
        columns = {CLIENT: client, **columns}
    return columns


def split_inside(entries):
    """The same of what happens in the process of a shell that was reset before."""
    entries = [entry for entry in entries if "reset_us" in entry]
    columns = split(entries)
    columns = {RESET: [entry["reset_us"] for entry in entries],
               **{name: columns[name] for name in ("entered", "answered") if name in columns}}
    columns[ALL] = [sum(values) for values in zip(*columns.values())]
    return columns


def table(columns):
    """
    Lines of a table, us. The floor is what one of a hundred does not reach: the smallest of all may
    be a moment at which the front was kept from looking at the clock.
    """
    lines = [f"{'stage':<10} {'floor':>6} {'p50':>6} {'p99':>6}  what it is"]
    for name, values in columns.items():
        lines.append(f"{name:<10} {percentile(values, 1):>6.0f} {statistics.median(values):>6.0f} "
                     f"{percentile(values, 99):>6.0f}  {WHAT[name]}")
    return lines


def blame(columns, limit_us):
    """
    A sentence about the requests that took longer than the limit: in which stage each of them lost
    most, compared with what that stage takes usually.
    """
    parts = [name for name in columns if name != ALL]
    usual = {name: statistics.median(columns[name]) for name in parts}
    total = [sum(values) for values in zip(*(columns[name] for name in parts))]
    slow = [i for i, us in enumerate(total) if us > limit_us]
    if not slow:
        return f"none of {len(total)} requests took longer than {limit_us:.0f} us"
    lost = {}
    for i in slow:
        worst = max(parts, key=lambda name, i=i: columns[name][i] - usual[name])
        lost.setdefault(worst, []).append(columns[worst][i] - usual[worst])
    said = [f"{name} {len(excess)} ({statistics.median(excess):.0f} us more than usual)"
            for name, excess in sorted(lost.items(), key=lambda item: -len(item[1]))]
    return (f"{len(slow)} of {len(total)} requests took longer than {limit_us:.0f} us; most of it "
            f"was lost in: {', '.join(said)}")
