"""A curve in two numbers: how high it lies, and how soon it reaches a height."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mean_height(x: Sequence[float] | Array, y: Sequence[float] | Array, end: float | None = None) -> float:
    """Return the area under a curve of straight pieces divided by its width: the mean height.

    Args:
        x: rising.
        y: as many; one NaN makes the result NaN.
        end: where to stop, between the first and the last x; the last by default.

    Example:
        >>> mean_height([0, 2, 4], [0.0, 1.0, 1.0])
        0.75
        >>> mean_height([0, 2, 4], [0.0, 1.0, 1.0], end=2)
        0.5
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if end is not None and end < xs[-1]:
        inside = xs < end
        xs, ys = np.append(xs[inside], end), np.append(ys[inside], np.interp(end, xs, ys))
    width = float(xs[-1] - xs[0])
    area = float((np.diff(xs) * (ys[1:] + ys[:-1])).sum() / 2)
    return area / width if width > 0 else float(ys[0])


def first_reach(x: Sequence[float] | Array, y: Sequence[float] | Array, height: float) -> float:
    """Return the x at which a curve of straight pieces first reaches a height; infinity if it never does, NaN for NaN.

    Args:
        x: rising.
        y: as many; NaN counts as not reached.
        height: the goal.

    Example:
        >>> first_reach([6, 10, 14], [0.2, 0.4, 0.6], 0.5)
        12.0
        >>> first_reach([6, 10, 14], [0.2, 0.4, 0.6], 0.7)
        inf
    """
    if math.isnan(height):
        return math.nan
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # A height that was computed from the same numbers must count as reached.
    reached = np.flatnonzero(ys >= height - 1e-12)
    if not reached.size:
        return math.inf
    at = int(reached[0])
    if at == 0 or math.isnan(ys[at - 1]):
        return float(xs[at])
    share = (height - ys[at - 1]) / (ys[at] - ys[at - 1])
    return float(xs[at - 1] + min(1.0, max(0.0, share)) * (xs[at] - xs[at - 1]))
