"""Gibbs ringing: edges of an image whose outer k-space was never measured."""

from __future__ import annotations

import numpy as np
from scipy import fft

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.linear import check_axis
from rarevoxel.phantom.fields import Array


def ringing(image: Array, *, axis: int, keep: float) -> Array:
    """Set the outer k-space lines of one axis to 0 and return the magnitude.

    The image is continued by its mirror image, so the spectrum is a cosine transform and the two ends of a crop, which
    do not fit together, do not ring.

    Args:
        image: one sequence `(H, W, D)`.
        axis: the axis that is measured coarsely.
        keep: part of the lines that is kept, around the centre, in (0, 1]; 1 leaves the image as it is.

    Returns:
        float32 `(H, W, D)`, >= 0.

    Raises:
        InputError: `keep` outside (0, 1], or no such axis.
    """
    check_axis(axis)
    if not 0 < keep <= 1:
        raise InputError(f"a part of {keep:g} of the k-space lines was to be kept, expected more than 0 and at most 1")
    if keep == 1:
        return image
    spectrum = fft.dct(image, axis=axis)
    np.moveaxis(spectrum, axis, 0)[max(1, round(keep * image.shape[axis])) :] = 0
    out = fft.idct(spectrum, axis=axis, overwrite_x=True)
    return np.asarray(np.abs(out, out=out), dtype=np.float32)
