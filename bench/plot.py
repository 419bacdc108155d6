# SPDX-License-Identifier: Apache-2.0
"""Figures drawn with characters, for people at a terminal."""

import bisect
import math

LINES_MAX = 24
BAR_WIDTH = 40
# Where a line may begin, within a factor of ten: the finest that needs no more than LINES_MAX lines.
STEPS = [[1, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2, 2.2, 2.4, 2.7, 3, 3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6,
          6.2, 6.8, 7.5, 8.2, 9.1], [1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2],
         [1, 1.5, 2.2, 3.3, 4.7, 6.8], [1, 2, 5], [1]]


def edges(low, high):
    """Rising numbers, evenly spread on a logarithmic scale; low is not below the first of them."""
    decades = range(math.floor(math.log10(low)) - 1, math.floor(math.log10(high)) + 1)
    for steps in STEPS:
        every = [step * 10.0 ** decade for decade in decades for step in steps]
        found = every[bisect.bisect_right(every, low) - 1:bisect.bisect_right(every, high)]
        if len(found) <= LINES_MAX:
            break
    return found


def histogram(values, unit="us"):
    """
    Lines of a histogram: from where, a bar, how many, how much of all up to here. From line to line
    values grow by a factor, and so do counts along a bar: the one slow answer of a thousand is seen.
    """
    if not values:
        return ["no values"]
    starts = edges(max(min(values), 1e-3), max(*values, 1e-3))
    counts = [0] * len(starts)
    for value in values:
        counts[max(0, bisect.bisect_right(starts, value) - 1)] += 1
    lines, so_far, scale = [], 0, BAR_WIDTH / math.log2(max(counts) + 1)
    for start, count in zip(starts, counts):
        so_far += count
        bar = "#" * math.ceil(math.log2(count + 1) * scale)
        begin = f"{start:.0f}" if start >= 10 else f"{start:.2g}"
        lines.append(f"{begin:>9} {unit} {bar:<{BAR_WIDTH}} {count:>7} "
                     f"{so_far / len(values):>7.2%}")
    return lines
