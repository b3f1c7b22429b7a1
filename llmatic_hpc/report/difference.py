"""Differences between two methods over their seeds: effect, exact test, and what n can show.

Seeds of two methods have nothing in common but their number, so they are not paired. The test is
that of Mann and Whitney (1947), two-sided, from all ways to share the values out, ties and all; the
effect is Vargha and Delaney's A (2000): the chance that a seed of the one is higher than a seed of
the other, equal ones by half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu, rankdata

MOST_SHARES = 200_000
"""Most ways to share out that are counted, enough for ten seeds each; beyond, the normal
approximation."""
FEWEST = 2
"""Fewest seeds of either for which anything is tested."""

Row = dict[str, Any]


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """Compare values of two methods, one of each seed.

    ``p`` and ``least_p``, the smallest that so many seeds could give, are None with fewer than two
    seeds of either.
    """
    n, m = len(ours), len(theirs)
    found: Row = {"n": [n, m], "difference": None, "effect": None, "p": None, "least_p": None,
                  "test": "Mann-Whitney U, exact"}  # fmt: skip
    if not n or not m:
        return found
    ranks = rankdata([*ours, *theirs])
    found["difference"] = float(np.mean(ours) - np.mean(theirs))
    found["effect"] = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    if min(n, m) < FEWEST:
        return found
    if math.comb(n + m, n) <= MOST_SHARES:
        found["p"], found["least_p"] = _exact(ranks, n)
    else:
        found["test"] = "Mann-Whitney U, normal approximation"
        found["p"] = float(mannwhitneyu(ours, theirs, method="asymptotic").pvalue)
        found["least_p"] = 0.0
    return found


def _exact(ranks: Any, n: int) -> tuple[float, float]:
    """Return the p of the first ``n`` of ``ranks``, and the smallest of any ``n`` of them."""
    middle = n * (len(ranks) + 1) / 2
    sums = np.array([sum(share) for share in combinations(ranks.tolist(), n)])
    away = np.abs(sums - middle)
    # Sums of halves are exact, so no tolerance is needed.
    own = abs(float(ranks[:n].sum()) - middle)
    return float((away >= own).mean()), float((away >= away.max()).mean())


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p of several comparisons of one measure (Holm, 1979); None stays None."""
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    found: list[float | None] = [None] * len(values)
    highest = 0.0
    for done, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - done)))
        found[place] = highest
    return found
