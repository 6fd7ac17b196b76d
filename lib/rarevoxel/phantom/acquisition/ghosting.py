"""Periodic ghosts: k-space lines that differ with a rhythm such as a pulse or an echo train."""

from __future__ import annotations

import numpy as np
from scipy import fft

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.linear import check_axis
from rarevoxel.phantom.fields import Array


def ghosts(image: Array, *, axis: int, every: int, amount: float, centre: float = 0.0) -> Array:
    """Scale every n-th k-space line by `1 - amount` and return the magnitude.

    With `every` a divisor of the `n` lines and no `centre`, that is the image minus `amount / every` times the sum of
    its copies at every `n / every` voxels, itself among them.

    Args:
        image: one sequence `(H, W, D)`.
        axis: phase-encoding axis.
        every: distance of the scaled lines, so also the number of ghosts and the image itself.
        amount: how much of those lines is lost; 0 leaves the image as it is.
        centre: part of the lines around the centre (0..1) that is spared, so that the brightness stays.

    Returns:
        float32 `(H, W, D)`, >= 0.

    Raises:
        InputError: `every` below 2, or no such axis.
    """
    check_axis(axis)
    if every < 2:
        raise InputError(f"every {every}-th k-space line was to be scaled, expected 2 or more")
    if amount == 0:
        return image
    n = image.shape[axis]
    spectrum = fft.rfft(image, axis=axis)
    line = np.arange(n // 2 + 1)
    scaled = (line % every == 0) & (line >= centre * n / 2)
    np.moveaxis(spectrum, axis, 0)[scaled] *= np.float32(1 - amount)
    out = fft.irfft(spectrum, n=n, axis=axis, overwrite_x=True)
    return np.asarray(np.abs(out, out=out), dtype=np.float32)
