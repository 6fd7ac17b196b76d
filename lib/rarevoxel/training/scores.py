"""The score that operating points are chosen by, and the choice."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

BETA = 2.0
"""A missed voxel weighs four times a false one."""


def f_score(prediction: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], beta: float = BETA) -> float:
    """Return `(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)` of two masks, b the weight of recall; 1 is Dice.

    Args:
        prediction: `(H, W, D)`.
        truth: the same shape, not empty.
        beta: b.
    """
    both = int(np.count_nonzero(prediction & truth))
    false, missed = int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(truth)) - both
    return (1 + beta**2) * both / ((1 + beta**2) * both + beta**2 * missed + false)


def choose(
    scores: Sequence[Sequence[float]], candidates: Sequence[float], known: float, what: str, *, most: float = 1.0
) -> float:
    """Return the candidate nearest to a known one that brings what can be gained, or most of it.

    With G the most that another candidate adds to the mean score of the known one, the nearest that adds `most` G is
    taken. Where G is no more than a standard error of its differences, case by case, the known one stays; so it does
    without scores.

    Args:
        scores: a row for every case, a column for every candidate.
        candidates: thresholds, the known one among them.
        known: what is used if nothing is better.
        what: name of the choice, for the log.
        most: share of the gain that must be reached, 0 to 1.
    """
    if not scores:
        return known
    gains = np.asarray(scores) - np.asarray(scores)[:, [candidates.index(known)]]
    means = gains.mean(axis=0)
    best = int(means.argmax())
    error = float(gains[:, best].std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    if means[best] <= error + 1e-12:
        return known
    enough = np.flatnonzero(means >= most * means[best] - 1e-12)
    chosen = min((int(index) for index in enough), key=lambda index: abs(candidates[index] - known))
    told = (what, candidates[chosen], means[chosen], known, means[best], candidates[best])
    logger.info("%s %g: mean score %+.3f against %g, at best %+.3f with %g", *told)
    return candidates[chosen]
