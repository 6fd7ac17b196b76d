"""Uneven receive coils and transmit fields: a smooth factor over the image."""

from __future__ import annotations

import numpy as np

from rarevoxel.phantom.fields import Array, smooth_field


def shade(
    image: Array,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    strength: float,
    wavelength_mm: float = 110.0,
) -> Array:
    """Multiply an image by `exp(strength * f)`, `f` a smooth field of zero mean and unit variance.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        rng: draws the field.
        strength: standard deviation of the log of the factor; 0 leaves the image as it is, 0.4 is a surface coil.
        wavelength_mm: shortest wave of the field, in mm.

    Returns:
        float32 `(H, W, D)`.
    """
    if strength == 0:
        return image
    factor = smooth_field(rng, image.shape, spacing, wavelength_mm)  # type: ignore[arg-type]
    factor *= np.float32(strength)
    np.exp(factor, out=factor)
    factor *= image
    return factor
