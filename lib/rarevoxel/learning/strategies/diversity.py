"""Diversity: cases that look least like those that are labelled, a core-set on the encoder's features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies.order import in_order, scored
from rarevoxel.learning.strategies.ranking import Choice, Option, Options, Ranking

METRICS = ["euclidean", "cosine"]

OPTIONS: Mapping[str, Option] = {"metric": METRICS}

WITHOUT = "not scored yet, or without features, so in order of name behind those that have some"

GREEDY = 100
"""How many cases are chosen one after the other: nobody asks for a larger batch, and each is a pass over the pool."""

_ROUND_OFF = 1e-12

_Matrix = npt.NDArray[np.float64]


def distances(pool: Pool, options: Options) -> list[Choice]:
    """Return a choice per waiting case with features, by name; `value` is the distance to the nearest labelled case.

    It is 0 for all while no labelled case has features.

    Args:
        pool: what to choose from; cases that are being labelled may stand among `labelled_features`.
        options: `metric` is `euclidean` (|a - b|) or `cosine` (|a/|a| - b/|b||, so that only the direction counts).
    """
    cases, points, names, centres = _points(pool, options["metric"])
    if not names or not cases:
        return [Choice(case, 0.0, ("no labelled case to compare with",)) for case in cases]
    between = _between(points, centres)
    nearest = zip(cases, between.min(axis=1).tolist(), between.argmin(axis=1).tolist(), strict=True)
    return [Choice(case, value, (_reason(value, names[at]),)) for case, value, at in nearest]


def rank_diversity(pool: Pool, options: Options, rng: np.random.Generator) -> list[Choice]:
    """Rank by k-centre greedy: again and again the case that is farthest from all labelled and all chosen so far.

        value = min over labelled and earlier cases j of |f_i - f_j|

    The first case of all, when nothing is labelled, is the one nearest to the mean of the features; its value is the
    distance to the case farthest from it. After `GREEDY` cases the rest follows by the distances that are left. Cases
    without features, or with another number of them, come last.

    References:
        O. Sener, S. Savarese, 2018, Active learning for convolutional neural networks: a core-set approach, ICLR. Ours
        is their greedy algorithm, without the mixed-integer program that refines it.
    """
    cases, points, names, centres = _points(pool, options["metric"])
    if not cases:
        return in_order(pool, (), WITHOUT)
    chosen: list[Choice] = []
    left = np.ones(len(cases), dtype=bool)

    def choose(at: int, value: float, reason: str) -> _Matrix:
        left[at] = False
        chosen.append(Choice(cases[at], value, (reason,)))
        return _between(points, points[at : at + 1])[:, 0]

    if names:
        between = _between(points, centres)
        nearest, owner = between.min(axis=1), between.argmin(axis=1)
    else:
        at = int(_between(points, points.mean(axis=0, keepdims=True)).argmin())
        value = float(_between(points, points[at : at + 1]).max())
        nearest = choose(at, value, "the most typical case, while none is labelled")
        names, owner = [cases[at]], np.zeros(len(cases), dtype=np.intp)
    while left.any() and len(chosen) < GREEDY:
        at = int(np.where(left, nearest, -1.0).argmax())
        found = choose(at, float(nearest[at]), _reason(float(nearest[at]), names[owner[at]]))
        owner[found < nearest] = len(names)
        names.append(cases[at])
        nearest = np.minimum(nearest, found)
    rest = [
        Choice(cases[at], float(nearest[at]), (_reason(float(nearest[at]), names[owner[at]]),))
        for at in sorted(np.flatnonzero(left).tolist(), key=lambda at: (-nearest[at], cases[at]))
    ]
    known = {*cases}
    return [*chosen, *rest, *(choice for choice in in_order(pool, (), WITHOUT) if choice.case not in known)]


def _points(pool: Pool, metric: str) -> tuple[list[str], _Matrix, list[str], _Matrix]:
    """Return the waiting cases with their features and the labelled ones with theirs, all of one length."""
    features = {case: score.features for case, score in scored(pool) if score.features}
    lengths = [len(values) for values in (*features.values(), *pool.labelled_features.values()) if values]
    length = max(lengths, key=lengths.count, default=0)
    cases = [case for case, values in features.items() if len(values) == length]
    names = sorted(case for case, values in pool.labelled_features.items() if len(values) == length)
    points = _matrix([features[case] for case in cases], length, metric)
    return cases, points, names, _matrix([pool.labelled_features[case] for case in names], length, metric)


def _matrix(rows: list[tuple[float, ...]], length: int, metric: str) -> _Matrix:
    found = np.array(rows, dtype=np.float64).reshape(len(rows), length)
    if metric == METRICS[0]:
        return found
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, np.finfo(np.float64).tiny))


def _between(points: _Matrix, centres: _Matrix) -> _Matrix:
    """Return the distances `(N, M)` of points `(N, D)` and centres `(M, D)`; rounding never parts equal ones."""
    # By one product of matrices rather than by differences, which is what a second is spent on otherwise.
    squares = np.square(points).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)[None]
    between = squares - 2 * points @ centres.T
    return np.asarray(np.sqrt(np.where(between <= _ROUND_OFF * squares, 0.0, between)))


def _reason(value: float, nearest: str) -> str:
    return f"looks different: distance {value:.3g} to the nearest case that is labelled or in work ({nearest})"


DIVERSITY = Ranking("diversity", "Cases that look least like the labelled ones", rank_diversity, OPTIONS)
