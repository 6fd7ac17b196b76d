"""One acquisition, applied in the order in which a scanner and a preprocessing pipeline do it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.bias import shade
from rarevoxel.phantom.acquisition.blur import blur, sharpen
from rarevoxel.phantom.acquisition.ghosting import ghosts
from rarevoxel.phantom.acquisition.head import remnants
from rarevoxel.phantom.acquisition.intensity import bend, quantise, rescale
from rarevoxel.phantom.acquisition.linear import along
from rarevoxel.phantom.acquisition.misregister import misregister
from rarevoxel.phantom.acquisition.missing import kept
from rarevoxel.phantom.acquisition.motion import motion
from rarevoxel.phantom.acquisition.noise import rician
from rarevoxel.phantom.acquisition.parameters import (
    Acquisition,
    Lines,
    Noise,
    SequenceAcquisition,
    Sharpness,
    Slices,
    Storage,
)
from rarevoxel.phantom.acquisition.ringing import ringing
from rarevoxel.phantom.acquisition.strip import Mask, rim, strip
from rarevoxel.phantom.acquisition.thick import slice_matrix
from rarevoxel.phantom.acquisition.wrap import wrap
from rarevoxel.phantom.fields import Array

Spacing = tuple[float, float, float]

FLOOR = 1e-3
"""Smallest intensity inside the brain mask: 0 means outside."""


def acquire(
    signals: Array,
    brain: Mask,
    acquisition: Acquisition,
    spacing: Spacing,
    rng: np.random.Generator,
) -> Array:
    """Scan, reconstruct, strip and store the sequences of a case.

    In order: head left on the brain, misregistration, point spread, sharpening, thick slices, shading, k-space faults
    (ringing, motion, ghosts, fold-over), noise, the erroneous mask, intensity curve, whole numbers, scale and offset.

    Args:
        signals: noise-free signals `(C, H, W, D)`, >= 0, the brightest tissue about 1.
        brain: the true brain mask `(H, W, D)`.
        acquisition: what is wrong with the scan (`draw_acquisition`); as many sequences as there are signals.
        spacing: voxel size in mm.
        rng: draws fields and noise.

    Returns:
        float32 `(C, H, W, D)`: 0 outside the erroneous mask, at least `FLOOR` inside it, all 0 where a sequence was
        dropped. A perfect acquisition returns `max(signals, FLOOR)` within the mask.

    Raises:
        InputError: signals, mask and acquisition do not fit together.
    """
    if signals.shape[1:] != brain.shape or len(signals) != len(acquisition.sequences):
        raise InputError(
            f"signals of shape {signals.shape}, a mask of shape {brain.shape} and {len(acquisition.sequences)} "
            "acquired sequences do not fit, expected signals (C, H, W, D), a mask (H, W, D) and C sequences"
        )
    acquired = kept(len(signals), acquisition.dropped)
    stripping = acquisition.stripping
    mask, remnant = strip(
        brain.astype(bool, copy=False),
        spacing,
        rng,
        erode_mm=stripping.erode_mm,
        erode_share=stripping.erode_share,
        grow_mm=stripping.grow_mm,
        grow_share=stripping.grow_share,
        wavelength_mm=stripping.wavelength_mm,
    )
    gain = mask.astype(np.float32)
    if stripping.rim_gain != 1:
        gain[rim(mask)] = stripping.rim_gain
    images = np.zeros(signals.shape, dtype=np.float32)
    for index in acquired:
        sequence = acquisition.sequences[index]
        signal = np.asarray(signals[index], dtype=np.float32)
        if stripping.grow_mm and stripping.grow_share:
            signal = remnants(signal, remnant, stripping.layers, index)
        image = store(scan(signal, sequence, spacing, rng) * gain, sequence.storage)
        np.maximum(image, np.float32(FLOOR), out=images[index])
        images[index] *= mask
    return images


def scan(signal: Array, sequence: SequenceAcquisition, spacing: Spacing, rng: np.random.Generator) -> Array:
    """Return what the scanner reconstructs from the noise-free signal of one sequence `(H, W, D)`."""
    moved = sequence.misregistration
    image = misregister(signal, spacing, shift_mm=moved.shift_mm, rotation_deg=moved.rotation_deg)
    image = _sharpness(image, spacing, sequence.sharpness)
    mixing = _mixing(image, spacing, sequence.slices)
    for axis, matrix in mixing.items():
        image = np.maximum(along(image, matrix, axis), 0)
    shading = sequence.shading
    image = shade(image, spacing, rng, strength=shading.strength, wavelength_mm=shading.wavelength_mm)
    image = ringing(image, axis=sequence.sharpness.axis, keep=sequence.sharpness.keep)
    image = _lines(image, spacing, sequence.lines)
    return _noise(image, rng, sequence.noise, mixing)


def store(image: Array, storage: Storage) -> Array:
    """Return the numbers in which one stripped sequence `(H, W, D)` is stored."""
    image = bend(image, gamma=storage.gamma, knots=storage.knots)
    image = quantise(image, levels=storage.levels)
    return rescale(image, scale=storage.scale, offset=storage.offset)


def _sharpness(image: Array, spacing: Spacing, sharpness: Sharpness) -> Array:
    image = blur(image, spacing, sigma_mm=sharpness.sigma_mm)
    return sharpen(image, spacing, amount=sharpness.sharpen)


def _mixing(image: Array, spacing: Spacing, slices: Slices) -> Mapping[int, Array]:
    """Return the matrix of thick slices by its axis, none for a 3-D acquisition: the noise needs it once more."""
    if slices.thickness_mm + slices.gap_mm <= spacing[slices.axis]:
        return {}
    matrix = slice_matrix(
        image.shape[slices.axis],
        spacing[slices.axis],
        thickness_mm=slices.thickness_mm,
        gap_mm=slices.gap_mm,
        phase=slices.phase,
        profile=slices.profile,
        interpolation=slices.interpolation,
    )
    return {slices.axis: matrix}


def _lines(image: Array, spacing: Spacing, lines: Lines) -> Array:
    image = motion(image, spacing, axis=lines.axis, moves=lines.moves)
    image = ghosts(
        image, axis=lines.axis, every=lines.ghost_every, amount=lines.ghost_amount, centre=lines.ghost_centre
    )
    return wrap(image, spacing, axis=lines.axis, shift_mm=lines.wrap_mm, amount=lines.wrap_amount)


def _noise(image: Array, rng: np.random.Generator, noise: Noise, mixing: Mapping[int, Array]) -> Array:
    return rician(image, rng, sigma=noise.sigma, centre=noise.centre, correlation=noise.correlation, mixing=mixing)
