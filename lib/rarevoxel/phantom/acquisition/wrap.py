"""Fold-over: what lies outside the field of view comes back in at the other side."""

from __future__ import annotations

import numpy as np

from rarevoxel.phantom.acquisition.linear import check_axis
from rarevoxel.phantom.fields import Array


def wrap(image: Array, spacing: tuple[float, float, float], *, axis: int, shift_mm: float, amount: float) -> Array:
    """Add a faint copy that is moved along one axis and goes round: `image + amount * roll(image, shift)`.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        axis: phase-encoding axis.
        shift_mm: how far the copy is moved, in mm, rounded to whole voxels.
        amount: brightness of the copy; 0 leaves the image as it is.

    Returns:
        float32 `(H, W, D)`.

    Raises:
        InputError: no such axis.
    """
    check_axis(axis)
    if amount == 0:
        return image
    out = np.roll(image, round(shift_mm / spacing[axis]), axis=axis)
    out *= np.float32(amount)
    out += image
    return out
