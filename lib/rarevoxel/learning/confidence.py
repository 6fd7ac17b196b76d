"""Whether a confidence of 0.8 comes with a Dice of 0.8, and what to say instead where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from rarevoxel.errors import InputError

FEWEST = 10
"""Labelled cases below which confidence is left as it is."""

GROUPS = 5
"""Groups of cases, of about as many each, in which confidence and Dice are compared."""


@dataclass(frozen=True)
class ConfidenceMap:
    """A growing function of confidence, piecewise linear between knots and constant beyond them.

    Args:
        confidence: where the knots are, ascending; with none the function changes nothing.
        dice: what is said there.
    """

    confidence: tuple[float, ...] = ()
    dice: tuple[float, ...] = ()

    def __call__(self, confidence: float) -> float:
        """Return the Dice to expect, in [0, 1]."""
        if not self.confidence:
            return confidence
        return float(np.interp(confidence, self.confidence, self.dice))


@dataclass(frozen=True)
class Calibration:
    """A map from confidence to Dice, and what it is worth.

    Attributes:
        map: what to say instead.
        cases: how many labelled cases it was made from.
        error_before: see `calibration_error`, of the confidence as it is; NaN without cases.
        error_after: the same of the map, every case judged by the map that the others make; equal to `error_before`
            while the map changes nothing. It can be the larger one: then leave confidence as it is.
        distance_before: mean of `|confidence - Dice|` over cases; NaN without cases.
        distance_after: the same of the map, each case left out of its own.
    """

    map: ConfidenceMap
    cases: int
    error_before: float
    error_after: float
    distance_before: float
    distance_after: float

    @property
    def pays(self) -> bool:
        """Whether the map is nearer to the truth on cases it has not seen."""
        return self.error_after < self.error_before


def calibrate(confidence: Sequence[float], dice: Sequence[float]) -> Calibration:
    """Return how to read the confidence of one region, from labelled cases.

    The map is the isotonic regression of Dice on confidence (pool adjacent violators): a case with more confidence
    is never said to be worse. Below `FEWEST` cases it changes nothing.

    Args:
        confidence: of each case, in [0, 1], see `rarevoxel.inference.self_check.region_confidence`.
        dice: of the same masks against their labels, in [0, 1]. Cases that the weights were trained on flatter.

    Raises:
        InputError: if there are not as many of both, or a value is none in [0, 1].

    References:
        B. Zadrozny, C. Elkan, 2002, Transforming classifier scores into accurate multiclass probability estimates,
        doi:10.1145/775047.775151. There of a class and its probability; here of Dice and its expectation.

    Example:
        >>> found = calibrate([0.8] * 10 + [0.9] * 10, [0.6] * 10 + [0.9] * 10)
        >>> round(found.map(0.8), 3), round(found.map(0.85), 3), round(found.error_before, 3)
        (0.6, 0.75, 0.1)
    """
    x, y = _checked(confidence, dice)
    if not x.size:
        return Calibration(ConfidenceMap(), 0, math.nan, math.nan, math.nan, math.nan)
    before, distance = calibration_error(x, y), float(np.abs(x - y).mean())
    if x.size < FEWEST:
        return Calibration(ConfidenceMap(), x.size, before, before, distance, distance)
    others = [np.arange(x.size) != index for index in range(x.size)]
    said = np.array([_fit(x[kept], y[kept])(float(value)) for kept, value in zip(others, x, strict=True)])
    after = calibration_error(said, y)
    return Calibration(_fit(x, y), x.size, before, after, distance, float(np.abs(said - y).mean()))


def calibrate_regions(
    confidence: Mapping[str, Mapping[str, float]], dice: Mapping[str, Mapping[str, float]]
) -> dict[str, Calibration]:
    """Return region -> calibration, from the cases of which both are known; see `calibrate`.

    Args:
        confidence: case -> region -> confidence, as `CaseScore` has it.
        dice: case -> region -> Dice of the same weights' mask against the label; a region may be left out.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for case in sorted(set(confidence) & set(dice)):
        for region, said in confidence[case].items():
            if region in dice[case]:
                pairs.setdefault(region, []).append((said, dice[case][region]))
    return {region: calibrate([s for s, _ in known], [d for _, d in known]) for region, known in pairs.items()}


def calibration_error(
    confidence: npt.NDArray[np.float64], dice: npt.NDArray[np.float64], groups: int = GROUPS
) -> float:
    """Return the expected calibration error of cases: `sum_g n_g / n |mean confidence_g - mean Dice_g|`.

    Groups are of neighbours in confidence and of about as many cases each, since bins of equal width would be empty.
    With few cases a group, chance alone makes it larger than 0.

    Args:
        confidence: `(n,)`, n >= 1.
        dice: `(n,)`.
        groups: at most.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(groups, order.size))
    return float(sum(abs(float((confidence[part] - dice[part]).sum())) for part in parts) / order.size)


def _fit(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> ConfidenceMap:
    places, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    fitted = isotonic_regression(means, weights=counts).x
    return ConfidenceMap(tuple(places.tolist()), tuple(np.clip(fitted, 0.0, 1.0).tolist()))


def _checked(
    confidence: Sequence[float], dice: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = np.asarray(confidence, np.float64), np.asarray(dice, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        msg = f"calibration: confidence of shape {x.shape}, Dice of shape {y.shape}, expected as many numbers of both"
        raise InputError(msg, "pass both of every labelled case")
    for name, values in (("confidence", x), ("Dice", y)):
        wrong = values[~((values >= 0) & (values <= 1))]
        if wrong.size:
            raise InputError(f"calibration: {name} {wrong[0]}, expected 0 to 1", "leave out cases without a score")
    return x, y
