"""The point spread of a scan, and the sharpening that scanners put on top of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from rarevoxel.phantom.fields import Array


def blur(image: Array, spacing: tuple[float, float, float], *, sigma_mm: tuple[float, float, float]) -> Array:
    """Smooth an image with a gaussian point spread.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        sigma_mm: standard deviation along each axis in mm; 0 leaves an axis as it is.

    Returns:
        float32 `(H, W, D)`.
    """
    for axis, (sigma, step) in enumerate(zip(sigma_mm, spacing, strict=True)):
        if sigma > 0:
            image = ndimage.gaussian_filter1d(image, sigma / step, axis=axis, mode="nearest", truncate=3.0)
    return image


def sharpen(image: Array, spacing: tuple[float, float, float], *, amount: float, sigma_mm: float = 1.0) -> Array:
    """Mask an image unsharply: `max(image + amount * (image - blurred), 0)`.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        amount: how much of the detail is added; 0 leaves the image as it is, 1 shows visible halos.
        sigma_mm: size of the detail that is raised, in mm.

    Returns:
        float32 `(H, W, D)`, >= 0.
    """
    if amount == 0:
        return image
    out = blur(image, spacing, sigma_mm=(sigma_mm, sigma_mm, sigma_mm))
    out *= np.float32(-amount)
    out += np.float32(1 + amount) * image
    return np.maximum(out, 0, out=out)
