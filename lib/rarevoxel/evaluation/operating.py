"""Lesions over probability thresholds: how many are found at a stated share of false alarms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation.checks import Mask, bounding_box, check_mask, check_probability, check_spacing
from rarevoxel.evaluation.lesions import LesionCounts, LesionMatcher

Rows = npt.NDArray[np.float64]
"""`(T, 5)`: threshold, truth, found, predicted, true; one row per threshold."""

_ROUND_OFF = 1e-9


def lesion_sweep(
    probability: npt.NDArray[Any],
    truth: Mask,
    spacing: npt.ArrayLike,
    thresholds: Sequence[float],
    overlap: float = 0.1,
    minimum_voxels: int = 1,
) -> list[tuple[float, LesionCounts]]:
    """Return the lesion counts at every threshold, the prediction being `probability >= threshold`.

    Args:
        probability: floating, in [0, 1], `(H, W, D)`.
        truth: boolean, the same shape.
        spacing: mm along the three axes.
        thresholds: rising, each in (0, 1].
        overlap: see `match_lesions`.
        minimum_voxels: see `match_lesions`.

    Returns:
        Thresholds with their counts, in the order given.

    Raises:
        InputError: if an array or the spacing is wrong.
        RequestError: if the thresholds do not rise within (0, 1], or another option is out of range.
    """
    levels = check_thresholds(thresholds)
    truth = check_mask("truth", truth)
    p = check_probability(probability, truth)
    spacing = check_spacing(spacing)
    box = bounding_box((p >= levels[0]) | truth) or np.s_[:1, :1, :1]
    matcher = LesionMatcher(truth[box], spacing, overlap, minimum_voxels)
    p = p[box]
    points: list[tuple[float, LesionCounts]] = []
    before = -1
    for level in levels:
        prediction = p >= level
        # Masks of rising thresholds are nested: as many voxels are the same voxels.
        voxels = int(np.count_nonzero(prediction))
        counts = points[-1][1] if voxels == before else matcher.match(prediction)
        points.append((level, counts))
        before = voxels
    return points


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Return the thresholds as floats.

    Raises:
        RequestError: if there are none, or they do not rise within (0, 1].
    """
    levels = tuple(float(level) for level in thresholds)
    rising = all(a < b for a, b in pairwise(levels))
    if not levels or not rising or not (levels[0] > 0 and levels[-1] <= 1):
        raise RequestError(f"thresholds {list(levels)} must rise, each in (0, 1]", "0 would predict every voxel")
    return levels


def sweep_rows(points: Sequence[tuple[float, LesionCounts]]) -> list[list[float]]:
    """Return a JSON-able record of a sweep: [threshold, truth, found, predicted, true] over all sizes."""
    return [[level, *counts.total] for level, counts in points]


def pool_sweeps(sweeps: Iterable[npt.ArrayLike]) -> Rows:
    """Return the sweep of all cases together: counts added, threshold by threshold.

    Args:
        sweeps: per case the rows of `sweep_rows`.

    Raises:
        InputError: if there is no sweep, one is not `(T, 5)`, or the thresholds differ.
    """
    tables = [_rows(sweep) for sweep in sweeps]
    if not tables:
        raise InputError("no sweeps to pool", "score at least one case")
    levels = tables[0][:, 0]
    for table in tables:
        if not np.array_equal(table[:, 0], levels):
            msg = f"sweeps of thresholds {table[:, 0].tolist()} and {levels.tolist()} cannot be pooled"
            raise InputError(msg, "score all cases at the same thresholds")
    return np.column_stack([levels, np.sum([table[:, 1:] for table in tables], axis=0)])


def recall_at_precision(points: Sequence[tuple[float, LesionCounts]] | npt.ArrayLike, precision: float) -> float:
    """Return the largest lesion recall that a threshold gives at no less than a precision.

    Between neighbouring thresholds a and b the four counts are joined by a line, the counts of using a on some cases
    and b on the others, so with `s = true - precision * predicted`, where s changes its sign,

        recall = ((1 - w) found_a + w found_b) / truth,   w = s_a / (s_a - s_b)

    Precision is no line there (joining precision and recall themselves is optimistic).

    Args:
        points: of `lesion_sweep`, or rows `(T, 5)` of `sweep_rows` or `pool_sweeps`; in the order of the thresholds.
        precision: in (0, 1].

    Returns:
        A fraction; NaN without a true lesion. Where the precision is never reached it is 0, not NaN: such a method
        finds nothing at that precision but by predicting nothing, and leaving it out would flatter it.

    Raises:
        InputError: if the points cannot be read.
        RequestError: if the precision is not in (0, 1].

    References:
        J. Davis and M. Goadrich, 2006, The relationship between precision-recall and ROC curves,
        doi:10.1145/1143844.1143874 (the interpolation of counts).

    Example:
        >>> round(recall_at_precision([[0.2, 10, 8, 16, 8], [0.5, 10, 4, 4, 4]], 0.8), 3)
        0.457
    """
    if not 0 < precision <= 1:
        raise RequestError(f"precision ({precision}) must be in (0, 1]")
    _, truth, found, predicted, true = _rows(points).T
    if not truth[0]:
        return math.nan
    slack = true - precision * predicted
    slack[np.abs(slack) <= _ROUND_OFF * predicted] = 0.0
    reached = slack >= 0
    best = float(found[reached].max(initial=0.0))
    for a in np.flatnonzero(reached[1:] != reached[:-1]).tolist():
        w = slack[a] / (slack[a] - slack[a + 1])
        best = max(best, float((1 - w) * found[a] + w * found[a + 1]))
    return best / float(truth[0])


def _rows(points: Any) -> Rows:
    if len(points) and isinstance(points[0][1], LesionCounts):
        points = sweep_rows(points)
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 5 or not table.shape[0]:
        msg = f"sweep of shape {table.shape} found, expected rows of threshold, truth, found, predicted, true"
        raise InputError(msg, "pass what lesion_sweep or sweep_rows returned")
    return table
