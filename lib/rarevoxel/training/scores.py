"""The score that operating points are chosen by."""

from __future__ import annotations

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
