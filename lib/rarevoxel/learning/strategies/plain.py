"""The two orders that need no model: by chance and by name."""

from __future__ import annotations

import numpy as np

from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies.ranking import Choice, Options, Ranking

NEVER_S = 1e9
"""What counts as the age of a case that was never handed out; some thirty years."""


def rank_random(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Draw the waiting cases one after the other, each with a chance in proportion to its age w.

    The age is the number of seconds since the case was last handed out (`Pool.ages`), at least 1, and `NEVER_S` for
    one that never was. Drawing without replacement equals sorting by `ln(u) / w` with u uniform in (0, 1), largest
    first. `value` is the age, so unlike elsewhere it need not fall.

    References:
        P. S. Efraimidis, P. G. Spirakis, 2006, Weighted random sampling with a reservoir,
        doi:10.1016/j.ipl.2005.11.003.
    """
    cases = sorted(pool.waiting)
    ages = np.array([max(1.0, pool.ages.get(case, NEVER_S)) for case in cases])
    keys = np.log(1.0 - rng.random(len(cases))) / ages
    order = sorted(range(len(cases)), key=lambda i: (-keys[i], cases[i]))
    return [Choice(cases[i], float(ages[i]), ("drawn at random", _when(float(ages[i])))) for i in order]


def rank_first(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Return the waiting cases by name."""
    return [Choice(case, 0.0, ("first by name",)) for case in sorted(pool.waiting)]


def _when(age: float) -> str:
    return "not handed out before" if age >= NEVER_S else f"last handed out {age / 60:.3g} min ago"


RANDOM = Ranking(
    "random", "A case by chance; the longer ago one was handed out, the likelier it is", rank_random, kind="order"
)
FIRST = Ranking("first", "The first case by name", rank_first, kind="order")
