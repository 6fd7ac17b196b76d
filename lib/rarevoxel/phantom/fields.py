"""Smooth random fields: the raw material of every shape and shading in a phantom."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float], wavelength: float
) -> Array:
    """Draw a smooth Gaussian random field of zero mean and unit variance.

    The field is a sum of separable cosine waves with random amplitudes and phases, damped towards short waves, so
    the cost is three small matrix products however large the volume is.

    Args:
        rng: source of randomness.
        shape: voxels `(H, W, D)`.
        spacing: voxel size in mm.
        wavelength: shortest wave kept, in mm; longer means smoother.

    Returns:
        float32 array of `shape`.
    """
    bases = []
    for n, step in zip(shape, spacing, strict=True):
        modes = max(2, math.ceil(2 * n * step / wavelength))
        position = (np.arange(n) + 0.5) / n
        phase = rng.uniform(0, math.pi, size=modes)
        damping = np.exp(-0.5 * (2 * np.arange(modes) / modes) ** 2)
        bases.append((np.cos(math.pi * position[:, None] * np.arange(modes) + phase) * damping).astype(np.float32))
    field = rng.standard_normal(tuple(b.shape[1] for b in bases), dtype=np.float32)
    return _standardised(field, bases)


def wave_field(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    wavelength: float,
    spread: float = 0.25,
) -> Array:
    """Draw a Gaussian random field all of whose waves are about equally long, as gyri are about equally wide.

    Args:
        rng: source of randomness.
        shape: voxels `(H, W, D)`.
        spacing: voxel size in mm.
        wavelength: mean length of a wave in mm; its zero sheets lie about half of that apart.
        spread: relative standard deviation of the wave number.

    Returns:
        float32 array of `shape`, zero mean, unit variance.
    """
    bases, squares = [], []
    for n, step in zip(shape, spacing, strict=True):
        modes = max(2, math.ceil(2 * n * step / wavelength * (1 + 2 * spread)))
        position = (np.arange(n) + 0.5) / n
        phase = rng.uniform(0, math.pi, size=modes)
        bases.append(np.cos(math.pi * position[:, None] * np.arange(modes) + phase).astype(np.float32))
        squares.append((np.arange(modes) / (2 * n * step)) ** 2)
    number = wavelength * np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    field = rng.standard_normal(number.shape, dtype=np.float32)
    field *= np.exp(-0.5 * ((number - 1) / spread) ** 2).astype(np.float32)
    return _standardised(field, bases)


def _standardised(amplitudes: Array, bases: list[Array]) -> Array:
    """Sum the waves of three axes, and bring the field to zero mean and unit variance."""
    field = amplitudes
    for basis in bases:
        field = np.tensordot(field, basis, axes=(0, 1))
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def refined(coarse: Array, factors: tuple[int, int, int], shape: tuple[int, int, int]) -> Array:
    """Interpolate linearly between voxels that are every `factors`-th, from the first, of a volume of `shape`."""
    fine = coarse
    for n, few, factor in zip(shape, coarse.shape, factors, strict=True):
        place = np.minimum(np.arange(n) / factor, few - 1)
        matrix = np.clip(1 - np.abs(place[:, None] - np.arange(few)), 0, None).astype(np.float32)
        fine = np.tensordot(fine, matrix, axes=(0, 1))
    return np.asarray(fine, dtype=np.float32)


def grid_mm(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)
) -> tuple[Array, Array, Array]:
    """Return broadcastable coordinates in mm along each axis, zero at the volume's middle plus `centre`."""
    axes = [
        ((np.arange(n) - (n - 1) / 2) * step - c).astype(np.float32)
        for n, step, c in zip(shape, spacing, centre, strict=True)
    ]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def ellipsoid(coordinates: tuple[Array, Array, Array], semi_axes: tuple[float, float, float]) -> Array:
    """Return the normalised radius of an axis-aligned ellipsoid: below 1 inside, 1 on its surface."""
    x, y, z = (c / a for c, a in zip(coordinates, semi_axes, strict=True))
    return np.asarray(np.sqrt(x * x + y * y + z * z), dtype=np.float32)


def ball_radius_mm(volume_mm3: float) -> float:
    """Return the radius in mm of a ball of a volume in mm^3: `(3 V / (4 pi))^(1/3)`."""
    return float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3))
