"""Rician noise: the magnitude of a signal with gaussian noise in both receiver channels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rarevoxel.phantom.acquisition.linear import along
from rarevoxel.phantom.fields import Array

_WIDTH = 0.35


def rician(
    image: Array,
    rng: np.random.Generator,
    *,
    sigma: float,
    centre: float = 0.0,
    correlation: float = 0.0,
    mixing: Mapping[int, Array] | None = None,
) -> Array:
    """Return `sqrt((image + s n1)^2 + (s n2)^2)` with `n1`, `n2` normal and `s` the local noise.

    At signal 0 the mean is `s sqrt(pi / 2)`; far above the noise it is the signal (Gudbjartsson and Patz, 1995,
    doi:10.1002/mrm.1910340618).

    `n2` is `n1` moved by a third of the volume, so the two are independent at any voxel, though not together.

    Args:
        image: one sequence `(H, W, D)`, >= 0.
        rng: draws the noise.
        sigma: standard deviation in each channel, in units of the image; 0 leaves the image as it is.
        centre: how much more noise there is in the middle of the volume, as parallel imaging leaves it: the local
            noise is `sigma * (1 + centre * exp(-r^2 / (2 * 0.35^2)))`, `r` = 1 at the middle of a face.
        correlation: part (0..0.5) of the next voxel mixed in along each axis, as interpolation does; the standard
            deviation stays.
        mixing: matrices `(n, n)` by axis (`slice_matrix`) that shape the noise of thick slices; rows are scaled so
            that the standard deviation stays. At most two axes.

    Returns:
        float32 `(H, W, D)`, >= 0.
    """
    if sigma == 0:
        return image
    mixing = mixing or {}
    real = _channel(image.shape, rng, correlation, mixing)
    # A far copy of one channel is as independent at any voxel as a second draw, which would take half of the time.
    far = [axis for axis in range(3) if axis not in mixing]
    imaginary = np.roll(real, [image.shape[axis] // 3 + 1 for axis in far], axis=far)
    local = sigma_map(image.shape, sigma, centre) if centre else np.float32(sigma)
    real *= local
    imaginary *= local
    real += image
    real *= real
    imaginary *= imaginary
    real += imaginary
    return np.sqrt(real, out=real)


def sigma_map(shape: tuple[int, ...], sigma: float, centre: float) -> Array:
    """Return the local noise of `rician`: float32 of `shape`."""
    a, b, c = (np.exp(-0.5 * (np.linspace(-1, 1, n) / _WIDTH) ** 2).astype(np.float32) for n in shape)
    local: Array = (np.float32(sigma * centre) * a)[:, None, None] * b[:, None] * c
    local += np.float32(sigma)
    return local


def _channel(
    shape: tuple[int, ...], rng: np.random.Generator, correlation: float, mixing: Mapping[int, Array]
) -> Array:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if correlation:
        first = np.float32((1 - correlation) / math.hypot(1 - correlation, correlation))
        second = np.float32(correlation / math.hypot(1 - correlation, correlation))
        for axis in range(noise.ndim):
            if axis not in mixing:
                noise = first * noise + second * np.roll(noise, 1, axis=axis)
    for axis, matrix in mixing.items():
        noise = along(noise, matrix / np.linalg.norm(matrix, axis=1, keepdims=True), axis)
    return noise
