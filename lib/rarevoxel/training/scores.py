"""The score that operating points are chosen by, and the choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BETA = 2.0


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


def best_threshold(scores: Sequence[Sequence[float]], candidates: Sequence[float]) -> float:
    """Return the candidate of the best mean score, of equally good ones the nearest to 0.5; without scores 0.5.

    Args:
        scores: a row for every case, a column for every candidate.
        candidates: thresholds.
    """
    if not scores:
        return 0.5
    means = np.mean(scores, axis=0)
    best = [t for t, mean in zip(candidates, means, strict=True) if mean >= means.max() - 1e-12]
    return min(best, key=lambda t: abs(t - 0.5))
