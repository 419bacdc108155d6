# SPDX-License-Identifier: Apache-2.0
"""
What bench/budgets says, and what becomes of a figure by it: met, missed, not judged. A time has no
limit in milliseconds: it is held against a reference that was measured in the same run.
"""

import collections
import math

import measure

TIMES_MS = {"ms": 1, "s": 1000}  # the units that need a reference, as milliseconds
RATIO = "x"  # the unit of a time over another of the same figure: needs an even machine, too
STATISTICS = ("p50", "p99", "p99.9")
MET, MISSED, NOT_JUDGED, NO_LIMIT = "met", "missed", "not judged", ""

# at_least: of its kind more is better.
Limit = collections.namedtuple("Limit", "number at_least")
# bound: the largest p90/p10 at which times of its run may be judged.
Reference = collections.namedtuple("Reference", "bound what")
# reference: a name, None where limits are numbers in the figure's unit. limits: {statistic: Limit}
Budget = collections.namedtuple("Budget", "unit reference what limits")
# {name: Budget} and {name: Reference}, in the order of the file
Budgets = collections.namedtuple("Budgets", "figures references")
# now: {statistic: limit in the figure's unit}; ratios: {statistic: times the reference's p50}
Judgement = collections.namedtuple("Judgement", "verdict now ratios")


class BadBudgets(Exception):
    """One sentence that names the line and what is right."""


# --- The table ---

def positive(text, what):
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise BadBudgets(f"'{text}' is no {what}: give a number above 0")
    return number


def parse_reference(words, references):
    if len(words) < 4:
        raise BadBudgets("a reference is 'reference NAME BOUND WHAT'")
    name, bound, what = words[1], positive(words[2], "bound"), " ".join(words[3:])
    if name in references:
        raise BadBudgets(f"reference {name} stands twice")
    if bound < 1:
        raise BadBudgets(f"reference {name} has the bound {words[2]}: p90/p10 is never below 1")
    references[name] = Reference(bound, what)


def parse_figure(words, figures, references):
    if len(words) < 5:
        raise BadBudgets("a figure is 'FIGURE STATISTIC REFERENCE LIMIT UNIT WHAT', where REFERENCE "
                         "and LIMIT may be -")
    figure, statistic, reference, limit, unit, *what = words
    reference = None if reference == "-" else reference
    if statistic not in STATISTICS:
        raise BadBudgets(f"{figure}: '{statistic}' is no statistic: {', '.join(STATISTICS)}")
    if reference and reference not in references:
        raise BadBudgets(f"{figure}: there is no reference '{reference}' above it")
    if unit in TIMES_MS and not reference:
        raise BadBudgets(f"{figure}: a time ({unit}) needs a reference")
    if unit not in TIMES_MS and reference:
        raise BadBudgets(f"{figure}: {unit} is no time: its reference is -")
    if figure not in figures and not what:
        raise BadBudgets(f"{figure}: its first line does not say what it is")
    budget = figures.setdefault(figure, Budget(unit, reference, " ".join(what), {}))
    if (budget.unit, budget.reference) != (unit, reference):
        raise BadBudgets(f"{figure}: another unit or reference than in its first line")
    if statistic in budget.limits:
        raise BadBudgets(f"{figure}: {statistic} has a limit already")
    if limit != "-":
        budget.limits[statistic] = Limit(positive(limit.lstrip(">"), "limit"),
                                         limit.startswith(">"))


def parse(text, name):
    """The Budgets of the text of a file of that name."""
    figures, references = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if words[0] == "reference":
                parse_reference(words, references)
            else:
                parse_figure(words, figures, references)
        except BadBudgets as error:
            raise BadBudgets(f"{name}:{number}: {error}") from None
    return Budgets(figures, references)


# --- A reference as it was measured ---

class Measured:
    """A reference of one run, from its samples in ms."""

    def __init__(self, name, reference, samples):
        self.name, self.bound, self.n = name, reference.bound, len(samples)
        self.p50 = measure.percentile(samples, 50)
        self.spread = measure.percentile(samples, 90) / measure.percentile(samples, 10)

    def unevenness(self):
        """Above 1: too uneven to judge by."""
        return self.spread / self.bound


def measured(references, samples):
    """{name: Measured}, from {name: [ms]}."""
    return {name: Measured(name, references[name], values) for name, values in samples.items()}


def worst(found):
    """Of {name: Measured} the one that keeps times from being judged, or None."""
    uneven = [each for each in found.values() if each.unevenness() > 1]
    return max(uneven, key=Measured.unevenness, default=None)


# --- A figure ---

def needs_even_machine(budget):
    return bool(budget.limits) and (budget.unit in TIMES_MS or budget.unit == RATIO)


def is_met(found, now, budget):
    return all(found[statistic] >= now[statistic] if limit.at_least
               else found[statistic] <= now[statistic]
               for statistic, limit in budget.limits.items())


def judge(found, budget, references, faults=()):
    """
    found: {statistic: value in the unit of the figure}. references: {name: Measured}, all of the
    run. A figure with a fault is missed whatever it took, but on an uneven machine faults come from
    there: requests fall back when those that make clones get no CPU.
    """
    if budget.reference and budget.reference not in references:
        raise measure.CannotMeasure(f"{budget.reference} was not measured beside it")
    scale = references[budget.reference].p50 / TIMES_MS[budget.unit] if budget.reference else 1
    now = {statistic: limit.number * scale for statistic, limit in budget.limits.items()}
    ratios = {statistic: found[statistic] / scale
              for statistic in STATISTICS if budget.reference and statistic in found}
    if needs_even_machine(budget) and worst(references):
        verdict = NOT_JUDGED
    elif faults:
        verdict = MISSED
    elif not budget.limits:
        verdict = NO_LIMIT
    else:
        verdict = MET if is_met(found, now, budget) else MISSED
    return Judgement(verdict, now, ratios)
