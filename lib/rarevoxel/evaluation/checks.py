"""What every metric does with its arguments first: masks of one shape, a spacing in mm, a box around what matters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.statistics.box import nonzero_box

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]


def check_mask(name: str, mask: Any) -> Mask:
    """Return `mask` as a boolean array `(H, W, D)`.

    Raises:
        InputError: if it is not boolean or not 3D.
    """
    array = np.asarray(mask)
    if array.ndim != 3 or array.dtype != np.bool_:
        msg = f"{name} of shape {array.shape}, {array.dtype} found, expected a boolean mask (H, W, D)"
        raise InputError(msg, "compare labels or probabilities with a value first, one region at a time")
    return array


def check_masks(prediction: Any, truth: Any) -> tuple[Mask, Mask]:
    """Return prediction and truth as boolean arrays `(H, W, D)` of one shape.

    Raises:
        InputError: if one is not a boolean mask `(H, W, D)`, or the shapes differ.
    """
    p, t = check_mask("prediction", prediction), check_mask("truth", truth)
    if p.shape != t.shape:
        msg = f"prediction shape {p.shape} and truth shape {t.shape} must be equal"
        raise InputError(msg, "put both on one grid first")
    return p, t


def check_probability(probability: Any, truth: Any, ndim: int = 3) -> npt.NDArray[Any]:
    """Return `probability` as a floating array in [0, 1] of the shape of `truth`.

    Raises:
        InputError: if it is not floating, has another shape, or has a value outside [0, 1] or NaN.
    """
    p, shape = np.asarray(probability), np.shape(truth)
    if p.ndim != ndim or p.shape != shape or not np.issubdtype(p.dtype, np.floating):
        msg = f"probability of shape {p.shape}, {p.dtype} found, expected floating, shape {shape} of the truth"
        raise InputError(msg, "pass probabilities, not decisions, on the grid of the truth")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        msg = f"probability from {p.min():g} to {p.max():g} found, expected all in [0, 1]"
        raise InputError(msg, "apply the sigmoid or softmax first")
    return p


def check_spacing(spacing: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the spacing as three floats in mm.

    Raises:
        InputError: if it is not three positive finite numbers.
    """
    values = np.asarray(spacing, dtype=np.float64).ravel().tolist()
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(f"spacing {values} must be three positive finite numbers in mm")
    return values[0], values[1], values[2]


def bounding_box(mask: Mask) -> Box | None:
    """Return the smallest box that holds every true voxel, or None if there is none."""
    found = nonzero_box(mask)
    if found is None:
        return None
    i, j, k = found
    return i, j, k
