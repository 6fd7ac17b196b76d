"""Noise-free signals of a scene: table, mixture of health and disease, texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.contrast import Table
from rarevoxel.phantom.contrast.tables import T2F
from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene import Material, Scene
from rarevoxel.phantom.scene.canvas import FULL

TURNED = ((0,), (1,), (2,), (0, 1))
"""Axes along which the grain is turned over for each sequence."""


@dataclass(frozen=True)
class Texture:
    """How uneven tissues are: relative standard deviations of smooth random factors.

    Args:
        healthy: of everything healthy but white matter, per sequence.
        white: of white matter, per sequence.
        disease: of diseased tissue, per sequence.
        wavelength_mm: shortest wave of the healthy texture.
        disease_wavelength_mm: shortest wave of the diseased one.
        flow: how bright moving fluid is on t2f where it is brightest, in units of the brightest healthy tissue.
        grain: standard deviation of the fine unevenness of everything healthy, per sequence, in units of the brightest
            healthy tissue: small vessels, perivascular spaces, folds too fine to be drawn.
        grain_mm: shortest wave of the grain.
    """

    healthy: tuple[float, float, float, float] = (0.0,) * 4
    white: tuple[float, float, float, float] = (0.0,) * 4
    disease: tuple[float, float, float, float] = (0.0,) * 4
    wavelength_mm: float = 12.0
    disease_wavelength_mm: float = 8.0
    flow: float = 0.0
    grain: tuple[float, float, float, float] = (0.0,) * 4
    grain_mm: float = 5.0


def draw_texture(rng: np.random.Generator) -> Texture:
    """Draw how uneven the tissues of one examination are."""

    def four(high: float, low: float = 0.01) -> tuple[float, float, float, float]:
        a, b, c, d = (float(v) for v in rng.uniform(low, high, size=4))
        return a, b, c, d

    flow = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.3 else 0.0
    waves, disease_waves = float(rng.uniform(6, 30)), float(rng.uniform(4, 15))
    grain, grain_mm = four(0.04, low=0.0), float(rng.uniform(2.5, 7))
    return Texture(four(0.16), four(0.07), four(0.2), waves, disease_waves, flow, grain, grain_mm)


def signals(scene: Scene, table: Table, texture: Texture, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the noise-free signals of a scene: `(1 - d) (healthy (1 + h) + g) + d disease (1 + t)`.

    d is the density, h and t are the textures, g is the grain: h and g partly shared by the sequences, t wholly, cut so
    that no signal is negative.

    Args:
        scene: maps `(H, W, D)`.
        table: mean signal `(4, materials)`.
        texture: how uneven tissues are.
        rng: draws the texture.

    Returns:
        float32 `(4, H, W, D)`, 0 outside the head, not negative.
    """
    shape, spacing = scene.healthy.shape, scene.spacing
    density = scene.density.astype(np.float32) / FULL
    diseased = scene.density > 0
    shared = _field(rng, shape, spacing, texture.wavelength_mm)
    result = np.empty((len(table), *shape), dtype=np.float32)
    lesion = _field(rng, shape, spacing, texture.disease_wavelength_mm) if diseased.any() else None
    fine = _field(rng, shape, spacing, texture.grain_mm) if any(texture.grain) else None
    brain = scene.brain
    for index, means in enumerate(table):
        own = 0.6 * shared + 0.8 * _field(rng, shape, spacing, texture.wavelength_mm)
        strength = np.full(len(Material), texture.healthy[index], dtype=np.float32)
        strength[Material.WHITE] = texture.white[index]
        signal = means[scene.healthy] * (1 + strength[scene.healthy] * own)
        if fine is not None:  # Turned over, a field is as independent as a second draw, which takes far longer.
            grain = texture.grain[index] * (0.6 * fine + 0.8 * np.flip(fine, TURNED[index]))
            signal += np.where(brain, grain, np.float32(0))
        if index == T2F and texture.flow:
            fluid = scene.healthy == Material.CSF
            signal[fluid] += texture.flow * np.clip(_field(rng, shape, spacing, 25)[fluid] - 0.8, 0, 1)
        if lesion is not None:
            where = means[scene.disease[diseased]] * (1 + texture.disease[index] * lesion[diseased])
            share = density[diseased]
            signal[diseased] = (1 - share) * signal[diseased] + share * where
        result[index] = np.maximum(signal, 0)
    return result


def _field(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, float, float], wavelength: float
) -> npt.NDArray[np.float32]:
    return smooth_field(rng, shape, spacing, max(wavelength, 2 * min(spacing)))  # type: ignore[arg-type]
