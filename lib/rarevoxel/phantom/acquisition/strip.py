"""Errors of skull stripping: brain that is missing at the rim, and patches of head that are left on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtri

from rarevoxel.errors import InputError
from rarevoxel.phantom.fields import Array, smooth_field

Mask = npt.NDArray[np.bool_]

_RAMP = 0.6


def rough_depth(brain: Mask, spacing: tuple[float, float, float], reach_mm: float) -> Array:
    """Return how deep each voxel lies in the brain, in mm, negative outside, cut at `reach_mm`.

    `depth = 2 * reach * (mean of the mask over a cube of side 2 * reach - 1/2)`: exact at a flat face along the axes,
    a fair guess elsewhere, and far cheaper than a distance transform.
    """
    size = [max(1, 2 * round(reach_mm / step) + 1) for step in spacing]
    depth = ndimage.uniform_filter(brain.astype(np.float32), size, mode="nearest")
    depth -= np.float32(0.5)
    depth *= np.float32(2 * reach_mm)
    return np.asarray(depth, dtype=np.float32)


def strip(
    brain: Mask,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    erode_mm: float = 0.0,
    erode_share: float = 0.0,
    grow_mm: float = 0.0,
    grow_share: float = 0.0,
    wavelength_mm: float = 40.0,
) -> tuple[Mask, Array]:
    """Return a brain mask that is too small in some patches and too large in others.

    Args:
        brain: the true mask `(H, W, D)`.
        spacing: voxel size in mm.
        rng: draws where the patches lie.
        erode_mm: how deep brain is missing in the middle of a patch, in mm.
        erode_share: part (0..1) of the surface in such patches; 0 for none, 1 for everywhere.
        grow_mm: how far the mask reaches out into the head, in mm.
        grow_share: part of the surface where it does.
        wavelength_mm: shortest wave of the patches, in mm.

    Returns:
        the erroneous mask `(H, W, D)`, and the remnant map: the distance to the brain in mm (at least 0.5 mm) where
        the mask holds head that is no brain, 0 elsewhere.

    Raises:
        InputError: a negative length, or a share outside 0..1.
    """
    for name, length, share in (("erode", erode_mm, erode_share), ("grow", grow_mm, grow_share)):
        if length < 0 or not 0 <= share <= 1:
            raise InputError(f"{name} by {length:g} mm over {share:g} of the surface, expected >= 0 mm and 0..1")
    erode, grow = erode_mm * (erode_share > 0), grow_mm * (grow_share > 0)
    mask, remnant = brain, np.zeros(brain.shape, dtype=np.float32)
    if not erode and not grow:
        return mask, remnant
    depth = rough_depth(brain, spacing, max(erode, grow) + max(spacing))
    if erode:
        missing = _patches(rng, brain.shape, spacing, wavelength_mm, erode_share)
        missing *= np.float32(erode)
        mask = brain & ((depth > missing) | (missing == 0))
    if grow:
        left = _patches(rng, brain.shape, spacing, wavelength_mm, grow_share)
        left *= np.float32(grow)
        extra = ~brain & (-depth < left)
        mask = mask | extra
        np.copyto(remnant, np.maximum(-depth, np.float32(0.5)), where=extra)
    return mask, remnant


def rim(mask: Mask) -> Mask:
    """Return the outermost voxels of a mask: those with a neighbour outside across a face."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        lines, inside = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        lines[1:] &= inside[:-1]
        lines[:-1] &= inside[1:]
    return mask & ~inner


def _patches(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    wavelength_mm: float,
    share: float,
) -> Array:
    """Return 0 outside patches, rising to 1 within them; about `share` of the volume is above 0."""
    if share == 1:
        return np.ones(shape, dtype=np.float32)
    field = smooth_field(rng, shape, spacing, wavelength_mm)  # type: ignore[arg-type]
    field -= np.float32(ndtri(1 - share))
    field /= np.float32(_RAMP)
    return np.clip(field, 0, 1, out=field)
