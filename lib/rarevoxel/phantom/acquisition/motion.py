"""A patient who moves during a scan: parts of k-space are measured at another position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.linear import check_axis, shift_line
from rarevoxel.phantom.fields import Array

Spectrum = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Moved:
    """A stretch of the scan that was spent at another position.

    Attributes:
        start: first k-space line, as a part (0..1) of all lines in the order they are measured: from the one edge of
            k-space through the centre (0.5) to the other.
        stop: end of the stretch, as `start`.
        shift_mm: position relative to the rest of the scan along the three axes, in mm.
    """

    start: float
    stop: float
    shift_mm: tuple[float, float, float]


def motion(image: Array, spacing: tuple[float, float, float], *, axis: int, moves: tuple[Moved, ...]) -> Array:
    """Measure some phase-encoding lines at shifted positions and return the magnitude.

    A shift of `d` voxels along the phase axis is the factor `exp(-2 pi i k d / n)` on line `k`; across it the lines
    themselves move, by linear interpolation.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        axis: phase-encoding axis.
        moves: stretches of the scan at another position; none leaves the image as it is. Where two overlap their
            shifts add up.

    Returns:
        float32 `(H, W, D)`, >= 0.

    Raises:
        InputError: a stretch that is not within 0..1, or no such axis.
    """
    check_axis(axis)
    for move in moves:
        if not 0 <= move.start <= move.stop <= 1:
            raise InputError(
                f"a movement from {move.start:g} to {move.stop:g} of the scan, expected 0 <= start <= stop <= 1"
            )
    moves = tuple(move for move in moves if any(move.shift_mm))
    if not moves:
        return image
    n = image.shape[axis]
    spectrum = fft.fftshift(fft.fft(np.moveaxis(image, axis, 0), axis=0), axes=0)
    frequency = fft.fftshift(fft.fftfreq(n))
    for move in moves:
        lines = slice(round(move.start * n), round(move.stop * n))
        spectrum[lines] = _displaced(spectrum[lines], frequency[lines], axis, move, spacing)
    # Left in this order, the lines only turn the phase of the image, which the magnitude does not show.
    moved = fft.ifft(spectrum, axis=0, overwrite_x=True)
    return np.ascontiguousarray(np.moveaxis(np.abs(moved), 0, axis), dtype=np.float32)


def _displaced(
    lines: Spectrum,
    frequency: npt.NDArray[np.float64],
    axis: int,
    move: Moved,
    spacing: tuple[float, float, float],
) -> Spectrum:
    voxels = [mm / step for mm, step in zip(move.shift_mm, spacing, strict=True)]
    ramp = np.exp(-2j * np.pi * frequency * voxels.pop(axis)).astype(np.complex64)
    for position, by in enumerate(voxels, start=1):
        lines = shift_line(lines, by, position)
    moved: Spectrum = lines * ramp[:, None, None]
    return moved
