"""The branch of the conditionally adaptive loss that the shape of the size distribution asks for."""

from __future__ import annotations

import math
from enum import Enum


class Branch(str, Enum):
    """The six branches of the conditionally adaptive loss; a member is equal to, and prints as, its value."""

    FISHER = "fisher"
    LOGIT = "logit"
    ARCSINE = "arcsine"
    LOG10 = "log10"
    LN = "ln"
    BCE_DICE = "bce_dice"

    def __str__(self) -> str:
        return self.value


def select_branch(skewness: float, kurtosis: float) -> Branch:
    """Return the branch for the skewness S and excess kurtosis K of the foreground sizes.

    ==================================================  ==========
    condition                                           branch
    ==================================================  ==========
    S <= -1                                             `fisher`
    -1 < S <= -0.5                                      `logit`
    -0.5 < S < 0                                        `arcsine`
    S >= 1                                              `log10`
    0.5 <= S < 1                                        `ln`
    0 < S < 0.5 and K < 0                               `log10`
    otherwise (S = 0; 0 < S < 0.5 and K >= 0; NaN)      `bce_dice`
    ==================================================  ==========

    Args:
        skewness: S, biased (population) skewness, no unit; NaN when it is undefined (see `Moments.skewness`).
        kurtosis: K, biased excess kurtosis, no unit. Its sign matters for 0 < S < 0.5 only, but a NaN in either
            argument means that the sizes have no shape to judge, and gives `bce_dice`.

    Returns:
        The branch; every pair of floats has exactly one.

    References:
        Alam et al., 2025, arXiv:2504.04458. The rule is theirs; they apply it to every mini-batch, we apply it once to
        the sizes of a whole training set (`SizeStatistics`), because at 3D batch sizes |S| <= (n - 2) / sqrt(n - 1)
        makes most branches unreachable.

    Example:
        >>> select_branch(1.3, 2.0).value
        'log10'
        >>> select_branch(0.2, 0.4).value
        'bce_dice'
    """
    return _rule(skewness, kurtosis)[0]


def branch_condition(skewness: float, kurtosis: float) -> str:
    """Return the row of the table of `select_branch` that S and K fall into, for people to read.

    Args:
        skewness: S, as in `select_branch`.
        kurtosis: K, as in `select_branch`.

    Returns:
        Such as `"S >= 1"`.
    """
    return _rule(skewness, kurtosis)[1]


def _rule(skewness: float, kurtosis: float) -> tuple[Branch, str]:
    rows = (
        (math.isnan(skewness) or math.isnan(kurtosis), Branch.BCE_DICE, "S or K undefined"),
        (skewness <= -1, Branch.FISHER, "S <= -1"),
        (skewness <= -0.5, Branch.LOGIT, "-1 < S <= -0.5"),
        (skewness < 0, Branch.ARCSINE, "-0.5 < S < 0"),
        (skewness >= 1, Branch.LOG10, "S >= 1"),
        (skewness >= 0.5, Branch.LN, "0.5 <= S < 1"),
        (skewness > 0 and kurtosis < 0, Branch.LOG10, "0 < S < 0.5 and K < 0"),
        (skewness > 0, Branch.BCE_DICE, "0 < S < 0.5 and K >= 0"),
    )
    return next(((branch, condition) for holds, branch, condition in rows if holds), (Branch.BCE_DICE, "S = 0"))
