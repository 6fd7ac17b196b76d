"""Draw what the sequences of a case share: the slice plan, the patient, the stripping, what was not acquired."""

from __future__ import annotations

from typing import cast

import numpy as np

from rarevoxel.phantom.acquisition.head import Layers
from rarevoxel.phantom.acquisition.parameters import Slices, Stripping
from rarevoxel.phantom.acquisition.thick import Interpolation, Profile
from rarevoxel.phantom.contrast.tables import T1C

THICKEST_MM = 6.0
DEEPEST_MM = 9.0


def draw_slices(rng: np.random.Generator, strength: float) -> tuple[Slices, ...]:
    """Draw the slices of the four sequences: mostly 3-D, else 2-D along one axis with or without a 3-D t1c."""
    u = rng.random()
    gross, mild = 0.11 * strength, 0.22 * strength
    if u >= gross + mild:
        return (Slices(),) * 4
    low, high = (3.0, THICKEST_MM) if u < gross else (1.5, 3.0)
    distance = rng.uniform(low, max(low, min(high, high * strength)))
    gap = rng.uniform(0, 0.3) * distance if rng.random() < 0.4 else 0.0
    axis = int(rng.choice(3, p=(0.2, 0.15, 0.65)))
    profile = cast(Profile, rng.choice(("box", "gaussian")).item())
    back = cast(Interpolation, rng.choice(("nearest", "linear", "cubic"), p=(0.15, 0.5, 0.35)).item())
    plan = [Slices(axis, distance - gap, gap, rng.uniform(0.1, 1.0), profile, back) for _ in range(4)]
    for index in _three_d(rng):
        plan[index] = Slices()
    return tuple(plan)


def _three_d(rng: np.random.Generator) -> list[int]:
    """Draw which sequences of a 2-D protocol are 3-D all the same: none, t1c, or two or three of the four."""
    u = rng.random()
    if u < 0.4:
        return []
    if u < 0.8:
        return [T1C]
    return [int(i) for i in rng.choice(4, size=rng.integers(2, 4), replace=False)]


def draw_moving(rng: np.random.Generator, strength: float) -> bool:
    """Draw whether the patient is restless: then most of the sequences show motion."""
    return bool(rng.random() < 0.13 * strength)


def draw_stripping(rng: np.random.Generator, strength: float) -> Stripping:
    """Draw the error of the brain mask: strong in about a tenth of the cases, slight in half of them."""
    u = rng.random()
    rim_gain = float(np.clip(1 + strength * rng.normal(-0.1, 0.25), 0.3, 1.6)) if rng.random() < 0.3 * strength else 1.0
    if u >= 0.6 * strength:
        return Stripping(rim_gain=rim_gain)
    strong = u < 0.1 * strength
    kind = rng.integers(3)
    erode = min(DEEPEST_MM, strength * (rng.uniform(3, 8) if strong else rng.uniform(0.5, 2.5)))
    grow = min(DEEPEST_MM, strength * (rng.uniform(3, 9) if strong else rng.uniform(1, 3)))
    return Stripping(
        erode_mm=erode if kind != 0 else 0.0,
        erode_share=rng.uniform(0.05, 0.4),
        grow_mm=grow if kind != 1 else 0.0,
        grow_share=rng.uniform(0.05, 0.4),
        wavelength_mm=rng.uniform(25, 80),
        rim_gain=rim_gain,
        layers=_layers(rng),
    )


def _layers(rng: np.random.Generator) -> Layers:
    """Draw the head: the typical one with thicknesses and signals that vary from patient to patient."""
    typical = Layers()
    dura_mm = rng.uniform(1.0, 3.0)

    def varied(signal: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(s) for s in np.asarray(signal) * np.exp(rng.normal(0, 0.3, size=4)))

    return Layers(
        dura_mm, dura_mm + rng.uniform(1, 6), varied(typical.dura), varied(typical.bone), varied(typical.scalp)
    )


def draw_dropped(rng: np.random.Generator, strength: float) -> tuple[int, ...]:
    """Draw which sequences were not acquired: one in 5 % of the cases, two in 1 %."""
    u = rng.random()
    count = 2 if u < 0.01 * strength else int(u < 0.06 * strength)
    return tuple(sorted(int(i) for i in rng.choice(4, size=count, replace=False)))
