"""Thick slices: what a 2-D acquisition keeps of the through-plane detail, resampled back to the fine grid."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.linear import along
from rarevoxel.phantom.fields import Array

Floats = npt.NDArray[np.float64]
Profile = Literal["box", "gaussian"]
Interpolation = Literal["nearest", "linear", "cubic"]

_DEGREE = {"linear": 1, "cubic": 3}
_FWHM_PER_SIGMA = 2.3548


def slice_matrix(
    n: int,
    voxel_mm: float,
    *,
    thickness_mm: float,
    gap_mm: float = 0.0,
    phase: float = 0.5,
    profile: Profile = "box",
    interpolation: Interpolation = "linear",
) -> Array:
    """Return the matrix `(n, n)` that images a line in thick slices and resamples it to `n` voxels.

    `matrix = R @ S`: `S` averages the line over each slice (rows sum to 1), `R` interpolates between slice centres
    and holds the end slices constant beyond them.

    Args:
        n: voxels along the line.
        voxel_mm: voxel size in mm.
        thickness_mm: width of a slice, or the full width at half maximum of a gaussian profile.
        gap_mm: what is skipped between two slices.
        phase: centre of the first slice, as a part of the distance between slices; 0.5 starts at the border.
        profile: sensitivity across a slice.
        interpolation: how the slices are brought back to the fine grid.

    Returns:
        float32 `(n, n)`, every row summing to 1.

    Raises:
        InputError: a thickness that is not positive, a negative gap or an unknown profile or interpolation.
    """
    if thickness_mm <= 0 or gap_mm < 0:
        raise InputError(
            f"slices of {thickness_mm:g} mm with a gap of {gap_mm:g} mm, expected a positive thickness and a gap >= 0"
        )
    distance = thickness_mm + gap_mm
    count = max(1, math.ceil(n * voxel_mm / distance - phase))
    centres = (phase + np.arange(count)) * distance
    average = _slices(n, voxel_mm, centres, thickness_mm, profile)
    return np.asarray(_back(n, voxel_mm, centres, interpolation) @ average, dtype=np.float32)


def thick_slices(
    image: Array,
    spacing: tuple[float, float, float],
    *,
    axis: int,
    thickness_mm: float,
    gap_mm: float = 0.0,
    phase: float = 0.5,
    profile: Profile = "box",
    interpolation: Interpolation = "linear",
) -> Array:
    """Image a volume in thick slices across `axis`, back on its own grid.

    A distance between slices of at most one voxel changes nothing. See `slice_matrix` for the arguments; cubic
    interpolation may overshoot, what falls below 0 is set to 0.
    """
    if thickness_mm + gap_mm <= spacing[axis]:
        return image
    matrix = slice_matrix(
        image.shape[axis],
        spacing[axis],
        thickness_mm=thickness_mm,
        gap_mm=gap_mm,
        phase=phase,
        profile=profile,
        interpolation=interpolation,
    )
    out = along(image, matrix, axis)
    return np.maximum(out, 0, out=out)


def _slices(n: int, voxel_mm: float, centres: Floats, thickness_mm: float, profile: str) -> Floats:
    low = np.arange(n) * voxel_mm
    if profile == "box":
        start, stop = centres[:, None] - thickness_mm / 2, centres[:, None] + thickness_mm / 2
        weight = np.clip(np.minimum(low + voxel_mm, stop) - np.maximum(low, start), 0, None)
    elif profile == "gaussian":
        sigma = thickness_mm / _FWHM_PER_SIGMA
        weight = np.exp(-0.5 * ((low + voxel_mm / 2 - centres[:, None]) / sigma) ** 2)
    else:
        raise InputError(f"slice profile {profile!r} is unknown, expected 'box' or 'gaussian'")
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)


def _back(n: int, voxel_mm: float, centres: Floats, interpolation: str) -> Floats:
    place = np.clip((np.arange(n) + 0.5) * voxel_mm, centres[0], centres[-1])
    identity = np.eye(len(centres))
    if interpolation == "nearest" or len(centres) == 1:
        nearest: Floats = identity[np.abs(place[:, None] - centres).argmin(axis=1)]
        return nearest
    if interpolation not in _DEGREE:
        raise InputError(f"interpolation {interpolation!r} is unknown, expected 'nearest', 'linear' or 'cubic'")
    degree = min(_DEGREE[interpolation], len(centres) - 1)
    return np.asarray(make_interp_spline(centres, identity, k=degree)(place))
