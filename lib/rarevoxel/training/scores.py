"""The score that operating points are chosen by, and the choice."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

BETA = 2.0

MOST = 0.75
"""Share of the gain that a choice must bring."""


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


def choose(scores: Sequence[Sequence[float]], candidates: Sequence[float], known: float, what: str) -> float:
    """Return the candidate nearest to a known one that brings most of what can be gained.

    With G the most that another candidate adds to the mean score of the known one, the nearest that adds `MOST` G is
    taken: scores are flat near their best, so that this moves with the draw, and a model is less certain of cases of
    another kind than of those it is judged by, so an extreme threshold would not carry over. Where G is no more than a
    standard error of its differences, case by case, the known one stays; so it does without scores.

    Args:
        scores: a row for every case, a column for every candidate.
        candidates: thresholds, the known one among them.
        known: what is used if nothing is better.
        what: name of the choice, for the log.
    """
    if not scores:
        return known
    gains = np.asarray(scores) - np.asarray(scores)[:, [candidates.index(known)]]
    means = gains.mean(axis=0)
    best = int(means.argmax())
    error = float(gains[:, best].std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    if means[best] <= error + 1e-12:
        return known
    enough = np.flatnonzero(means >= MOST * means[best] - 1e-12)
    chosen = min((int(index) for index in enough), key=lambda index: abs(candidates[index] - known))
    told = (what, candidates[chosen], means[chosen], known, means[best], candidates[best])
    logger.info("%s %g: mean score %+.3f against %g, at best %+.3f with %g", *told)
    return candidates[chosen]
