"""Draw an acquisition: most scans are mildly imperfect, a few have a gross fault."""

from __future__ import annotations

import math

import numpy as np

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition.draw_shared import (
    draw_dropped,
    draw_moving,
    draw_slices,
    draw_stripping,
)
from rarevoxel.phantom.acquisition.motion import Moved
from rarevoxel.phantom.acquisition.parameters import (
    Acquisition,
    Lines,
    Misregistration,
    Noise,
    SequenceAcquisition,
    Shading,
    Sharpness,
    Slices,
    Storage,
    Vector,
)
from rarevoxel.phantom.contrast.tables import T1C, T2F

REFERENCE = T1C
"""The sequence the others are registered to."""


def draw_acquisition(rng: np.random.Generator, strength: float = 1.0) -> Acquisition:
    """Draw what is wrong with the scan of one case.

    Motion, ghosts, fold-over, slices above 3 mm and strong stripping errors come in 5-12 % of the sequences each;
    shading, noise and a slight point spread in nearly all. Thick slices and a moving patient concern the case.

    Args:
        rng: source of randomness.
        strength: 0 for the perfect acquisition, 1 for what clinical scans look like, up to 2 for worse; it scales how
            often a fault is there and how large it is, but for noise and point spread, which mild scans have, too: at
            strengths near 0 half as much noise and two fifths of the spread of a typical one.

    Returns:
        the acquisition of t1n, t1c, t2w, t2f.

    Raises:
        InputError: a strength outside 0..2.
    """
    if not 0 <= strength <= 2:
        raise InputError(f"an acquisition of strength {strength} was to be drawn, expected 0..2", "1 is typical")
    if strength == 0:
        return Acquisition()
    slices = draw_slices(rng, strength)
    moving = draw_moving(rng, strength)
    sequences = tuple(_sequence(rng, strength, index, slices[index], moving) for index in range(4))
    return Acquisition(sequences, draw_stripping(rng, strength), draw_dropped(rng, strength))


def _sequence(
    rng: np.random.Generator, strength: float, index: int, slices: Slices, moving: bool
) -> SequenceAcquisition:
    return SequenceAcquisition(
        misregistration=_misregistration(rng, strength, index),
        sharpness=_sharpness(rng, strength, slices),
        slices=slices,
        shading=_shading(rng, strength),
        lines=_lines(rng, strength, slices, moving),
        noise=_noise(rng, strength, index),
        storage=_storage(rng, strength),
    )


def _misregistration(rng: np.random.Generator, strength: float, index: int) -> Misregistration:
    likely = 0.1 if index == REFERENCE else 0.6
    if not _happens(rng, likely * strength):
        return Misregistration()
    size = strength * (rng.uniform(0.8, 1.5) if _happens(rng, 0.06) else 0.35)
    turned = _happens(rng, 0.2)
    return Misregistration(_vector(rng, size), _vector(rng, 0.8 * strength) if turned else (0.0, 0.0, 0.0))


def _sharpness(rng: np.random.Generator, strength: float, slices: Slices) -> Sharpness:
    sigma = [0.0, 0.0, 0.0]
    if _happens(rng, 0.8 * strength):
        width = (0.4 + 0.6 * strength) * rng.uniform(0.25, 0.9)
        sigma = [width * rng.uniform(0.7, 1.0) for _ in range(3)]
    if slices.thickness_mm:
        sigma[slices.axis] = 0.0
    amount = strength * rng.uniform(0.2, 0.8) if _happens(rng, 0.2 * strength) else 0.0
    keep = 1 - min(0.5, strength * rng.uniform(0.05, 0.4)) if _happens(rng, 0.25 * strength) else 1.0
    return Sharpness((sigma[0], sigma[1], sigma[2]), amount, keep, _in_plane(rng, slices))


def _shading(rng: np.random.Generator, strength: float) -> Shading:
    if not _happens(rng, 0.9 * strength):
        return Shading()
    return Shading(min(0.4, strength * abs(rng.normal(0, 0.2))), rng.uniform(70, 180))


def _lines(rng: np.random.Generator, strength: float, slices: Slices, moving: bool) -> Lines:
    moves = _moves(rng, strength) if moving and _happens(rng, 0.6) else ()
    ghost = strength * rng.uniform(0.1, 0.6) if _happens(rng, 0.07 * strength) else 0.0
    folded = strength * rng.uniform(0.03, 0.25) if _happens(rng, 0.07 * strength) else 0.0
    return Lines(
        axis=_in_plane(rng, slices),
        moves=moves,
        ghost_every=int(rng.integers(2, 7)),
        ghost_amount=min(1.0, ghost),
        wrap_mm=rng.uniform(40, 110) * rng.choice((-1, 1)),
        wrap_amount=folded,
    )


def _moves(rng: np.random.Generator, strength: float) -> tuple[Moved, ...]:
    """Draw one to four stretches of the scan, none of them over the centre of k-space, which sets the position."""
    moves = []
    for _ in range(rng.integers(1, 5)):
        start, length = rng.uniform(0, 0.42), rng.uniform(0.02, 0.2)
        stop = min(0.47, start + length)
        if rng.random() < 0.5:
            start, stop = 1 - stop, 1 - start
        moves.append(Moved(start, stop, _vector(rng, strength * rng.uniform(0.5, 2.5))))
    return tuple(moves)


def _noise(rng: np.random.Generator, strength: float, index: int) -> Noise:
    """Draw noise; FLAIR, which loses signal to its inversion and a long echo, has two thirds more."""
    if not _happens(rng, 0.75 + 0.2 * strength):
        return Noise()
    low, high = (0.04, 0.09) if _happens(rng, 0.08) else (0.01, 0.05)
    if index == T2F:
        low, high = 1.7 * low, 1.7 * high
    sigma = (0.5 + 0.5 * strength) * math.exp(rng.uniform(math.log(low), math.log(high)))
    centre = rng.uniform(0.2, 1.5) if _happens(rng, 0.35) else 0.0
    return Noise(sigma, centre, rng.uniform(0.1, 0.5) if _happens(rng, 0.4) else 0.0)


def _storage(rng: np.random.Generator, strength: float) -> Storage:
    gamma = float(np.clip(math.exp(rng.normal(0, 0.15 * strength)), 0.6, 1.7)) if _happens(rng, 0.6 * strength) else 1.0
    knots = _knots(rng, strength) if _happens(rng, 0.4 * strength) else ()
    levels = int(rng.choice((127, 255, 1023, 4095))) if _happens(rng, 0.6 * strength) else 0
    scale = math.exp(rng.uniform(math.log(100), math.log(4000))) if _happens(rng, 0.5 * strength) else 1.0
    offset = strength * rng.uniform(0, 0.1) if _happens(rng, 0.2 * strength) else 0.0
    return Storage(gamma, knots, levels, scale, offset)


def _knots(rng: np.random.Generator, strength: float) -> tuple[tuple[float, float], ...]:
    """Draw two to four knots: the slope between them is off by a factor of about `exp(0.35 strength)`."""
    width = rng.dirichlet(np.full(rng.integers(3, 6), 4.0)) + 1e-3
    height = width * np.exp(0.35 * strength * rng.standard_normal(len(width)))
    x, y = np.cumsum(width / width.sum())[:-1], np.cumsum(height / height.sum())[:-1]
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _in_plane(rng: np.random.Generator, slices: Slices) -> int:
    """Draw an axis; with thick slices one that lies in them."""
    return int(rng.choice([axis for axis in range(3) if axis != slices.axis or not slices.thickness_mm]))


def _vector(rng: np.random.Generator, size: float) -> Vector:
    x, y, z = (float(v) for v in rng.normal(0, size, size=3))
    return x, y, z


def _happens(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)
