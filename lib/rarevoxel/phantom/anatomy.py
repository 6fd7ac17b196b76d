"""A brain of its own for every seed: folded cortex, white matter, ventricles, deep grey nuclei, cerebellum, stem."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.fields import ellipsoid, grid_mm, smooth_field

SEMI_AXES_MM = (67.0, 84.0, 62.0)
"""Mean half extents of an adult brain, left-right, front-back, up-down."""


class Tissue(IntEnum):
    """What fills a voxel. Values from `EDEMA` on are disease."""

    AIR = 0
    CSF = 1
    GREY = 2
    WHITE = 3
    NUCLEUS = 4
    VESSEL = 5
    EDEMA = 6
    CORE = 7
    NECROSIS = 8
    ENHANCING = 9


def anatomy(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> npt.NDArray[np.uint8]:
    """Draw a skull-stripped brain as a map of `Tissue` values.

    Args:
        rng: source of randomness; the same state gives the same brain.
        shape: voxels `(H, W, D)`, axes left-right, back-front, down-up.
        spacing: voxel size in mm.

    Returns:
        uint8 array of `shape`; a brain that would not fit the field of view is scaled down to it.
    """
    extent = [n * s for n, s in zip(shape, spacing, strict=True)]
    scale = min(1.0, *(0.46 * e / a for e, a in zip(extent, SEMI_AXES_MM, strict=True)))
    a, b, c = (scale * axis * rng.uniform(0.92, 1.05) for axis in SEMI_AXES_MM)
    unit = min(a, b, c) / 62.0
    jitter = (0.0, rng.uniform(-2, 2) * unit, rng.uniform(-2, 2) * unit)
    x, y, z = grid_mm(shape, spacing, jitter)
    warp = smooth_field(rng, shape, spacing, 45 * unit)

    cerebrum = ellipsoid((x, y, z - 0.1 * c), (a, b, 0.9 * c)) * (1 + 0.05 * warp)
    cerebrum = np.where(z < -0.35 * c, cerebrum + 0.9 * (-0.35 - z / c), cerebrum)
    cerebellum = ellipsoid((x, y + 0.52 * b, z + 0.62 * c), (0.66 * a, 0.36 * b, 0.33 * c)) * (1 + 0.04 * warp)
    stem = ellipsoid((x, y + 0.22 * b, z + 0.62 * c), (0.2 * a, 0.17 * b, 0.42 * c))
    depth = ((1 - cerebrum) * min(a, b, c)).astype(np.float32)

    tissue = np.zeros(shape, dtype=np.uint8)
    _fill_cortex(tissue, rng, depth, spacing, unit)
    tissue[(np.abs(x) < 0.9 * unit) & (depth > 0) & (z > 0.25 * c)] = Tissue.CSF
    _fill_cerebellum(tissue, rng, cerebellum, spacing, unit)
    tissue[(stem < 1) & (tissue != Tissue.GREY)] = Tissue.WHITE

    for side in (-1.0, 1.0):
        nucleus = ellipsoid((x - side * 0.3 * a, y - 0.02 * b, z + 0.02 * c), (0.13 * a, 0.2 * b, 0.17 * c))
        tissue[(nucleus * (1 + 0.1 * warp) < 1) & (depth > 0)] = Tissue.NUCLEUS
        width = rng.uniform(0.05, 0.13)
        bend = 0.16 * a + 0.12 * a * (y / b) ** 2
        ventricle = ellipsoid((x - side * bend, y + 0.05 * b, z - 0.12 * c), (width * a, 0.42 * b, 0.17 * c))
        tissue[(ventricle * (1 + 0.15 * warp) < 1) & (depth > 0)] = Tissue.CSF
    third = ellipsoid((x, y - 0.02 * b, z + 0.05 * c), (rng.uniform(0.02, 0.05) * a, 0.14 * b, 0.14 * c))
    tissue[(third < 1) & (depth > 0)] = Tissue.CSF
    _fill_vessels(tissue, rng, spacing, unit)
    return tissue


def _fill_cortex(
    tissue: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    depth: npt.NDArray[np.float32],
    spacing: tuple[float, float, float],
    unit: float,
) -> None:
    """White matter inside; grey ribbons along the zero sheets of a folding field, with fluid in the sulci."""
    fold = np.abs(smooth_field(rng, depth.shape, spacing, rng.uniform(13, 18) * unit))  # type: ignore[arg-type]
    tissue[depth > 0] = Tissue.WHITE
    sulcus_depth = rng.uniform(14, 26) * unit
    fading = np.clip(1 - depth / sulcus_depth, 0, 1)
    tissue[(depth > 0) & ((depth < 2.6 * unit) | (fold < rng.uniform(0.7, 1.1) * np.sqrt(fading)))] = Tissue.GREY
    tissue[(depth > 0) & (fold < rng.uniform(0.08, 0.2) * fading)] = Tissue.CSF


def _fill_cerebellum(
    tissue: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    radius: npt.NDArray[np.float32],
    spacing: tuple[float, float, float],
    unit: float,
) -> None:
    folia = np.abs(smooth_field(rng, radius.shape, spacing, 10 * unit))  # type: ignore[arg-type]
    inside = (radius < 1) & (tissue == Tissue.AIR)
    tissue[inside] = Tissue.GREY
    tissue[inside & (radius < 0.75) & (folia > 0.45)] = Tissue.WHITE
    tissue[inside & (radius > 0.6) & (folia < 0.06)] = Tissue.CSF


def _fill_vessels(
    tissue: npt.NDArray[np.uint8], rng: np.random.Generator, spacing: tuple[float, float, float], unit: float
) -> None:
    """Thin tubes: where two independent fields cross zero together, near fluid or in the cortex."""
    first = np.abs(smooth_field(rng, tissue.shape, spacing, 24 * unit))  # type: ignore[arg-type]
    second = np.abs(smooth_field(rng, tissue.shape, spacing, 24 * unit))  # type: ignore[arg-type]
    tube = (first < 0.1) & (second < 0.1)
    tissue[tube & ((tissue == Tissue.CSF) | (tissue == Tissue.GREY))] = Tissue.VESSEL
