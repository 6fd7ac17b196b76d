"""A brain of its own for every draw: cerebrum, cerebellum, stem, ventricles and deep grey nuclei."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.anatomy import SEMI_AXES_MM
from rarevoxel.phantom.fields import ellipsoid, grid_mm, smooth_field
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.cortex import draw_folding, fold_cerebellum, fold_cortex, sulcal_distance
from rarevoxel.phantom.scene.fissures import lateral_distance, midline_distance
from rarevoxel.phantom.scene.limbic import add_limbic
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.pairs import Place, add_pairs
from rarevoxel.phantom.scene.variants import add_variants

Field = npt.NDArray[np.float32]

NUCLEI: tuple[Place, ...] = (
    ((0.36, 0.08, -0.02), (0.1, 0.2, 0.15)),
    ((0.15, -0.12, 0.02), (0.11, 0.16, 0.13)),
    ((0.19, 0.26, 0.1), (0.07, 0.13, 0.12)),
)
"""Putamen with pallidum, thalamus, and the head of the caudate."""


VARIED = 0.2
"""How many brains have normal variants. In more of them a small network learns that what is bright is healthy."""


def draw_brain(rng: np.random.Generator, shape: tuple[int, int, int], spacing: Spacing) -> Map:
    """Draw a brain as a map of `Material` values; one that would not fit the volume is scaled down.

    Args:
        rng: source of randomness.
        shape: voxels `(H, W, D)`, axes left-right, back-front, down-up.
        spacing: voxel size in mm.
    """
    extent = [n * s for n, s in zip(shape, spacing, strict=True)]
    scale = min(1.0, *(0.45 * e / a for e, a in zip(extent, SEMI_AXES_MM, strict=True)))
    a, b, c = (scale * axis * rng.uniform(0.9, 1.06) for axis in SEMI_AXES_MM)
    unit = min(a, b, c) / 62.0
    x, y, z = grid_mm(shape, spacing, (0.0, rng.uniform(-2, 2) * unit, rng.uniform(-2, 2) * unit))
    warp = smooth_field(rng, shape, spacing, 60 * unit)
    bend = smooth_field(rng, (2, shape[1], shape[2]), spacing, 50 * unit)[:1]
    x = x + rng.uniform(0, 1.6) * unit * bend  # No midline is a plane.
    cerebrum = ellipsoid((x, y, z - 0.1 * c), (a, b, 0.9 * c)) * (1 + 0.025 * warp)
    cerebrum = np.where(z < -0.35 * c, cerebrum + 0.9 * (-0.35 - z / c), cerebrum)
    depth = ((1 - cerebrum) * min(a, b, c)).astype(np.float32)
    folding = draw_folding(rng, unit)
    width = rng.uniform(0.04, 0.16)
    bottom = 0.23 + 0.9 * width + rng.uniform(0.03, 0.1)  # What joins the hemispheres lies above the ventricles.
    midline = midline_distance((x, y, z), (a, b, c), bottom) - max(folding.gap_mm, 0.5 * unit)
    lateral, insular, outwards = lateral_distance((x, y, z), (a, b, c), warp, rng)
    fissure = np.minimum(midline, lateral - rng.uniform(0.2, 2.2) * unit)

    head = np.zeros(shape, dtype=np.uint8)
    sulci = sulcal_distance((x, y, z), (a, b, c), folding, rng, spacing)
    below = np.minimum(depth, fissure)
    insula = (outwards < 0) & (insular < np.minimum(depth, midline))
    fold_cortex(head, below, np.where(insula, below + 10 * unit, below), sulci, folding, rng, spacing)
    head[(depth > 0) & (fissure <= 0)] = Material.CSF
    cerebellum = ellipsoid((x, y + 0.52 * b, z + 0.62 * c), (0.66 * a, 0.36 * b, 0.33 * c)) * (1 + 0.03 * warp)
    fold_cerebellum(head, cerebellum, rng, spacing, unit)
    _add_stem(head, ellipsoid((x, y + 0.22 * b, z + 0.62 * c), (0.2 * a, 0.17 * b, 0.42 * c)), rng, spacing, unit)
    add_limbic(head, (x, y, z), (a, b, c), insular, warp, rng, spacing)
    add_pairs(head, depth > 0, Material.NUCLEUS, NUCLEI, (0.8, 1.15), (x, y, z), (a, b, c), warp, rng)
    if rng.random() < VARIED:
        add_variants(head, (depth > 0) & (head != Material.CSF), (x, y, z), (a, b, c), warp, rng)
    _add_ventricles(head, (x, y, z), (a, b, c), depth, width, warp, rng)
    return head


def _add_stem(head: Map, radius: Field, rng: np.random.Generator, spacing: Spacing, unit: float) -> None:
    """The brainstem (radius < 1): tracts, or nuclei, which are brighter on FLAIR, or both side by side."""
    inside = (radius < 1) & (head != Material.GREY)
    head[inside] = Material.WHITE
    nuclei = smooth_field(rng, head.shape, spacing, 20 * unit) > rng.choice((-9.0, 0.0, 1.0, 9.0))  # type: ignore[arg-type]
    head[inside & nuclei] = rng.choice((Material.NUCLEUS, Material.LIMBIC), p=(0.75, 0.25))


def _add_ventricles(
    head: Map,
    at: tuple[Field, Field, Field],
    size: tuple[float, float, float],
    depth: Field,
    width: float,
    warp: Field,
    rng: np.random.Generator,
) -> None:
    """Lateral ventricles (body, occipital and temporal horns, not quite symmetric), third and fourth ventricle."""
    (x, y, z), (a, b, c) = at, size
    for side in (-1.0, 1.0):
        own = width * np.exp(0.2 * rng.standard_normal())
        bend = (0.035 + 0.95 * own) * a + 0.16 * a * (y / b) ** 2
        body = ellipsoid((x - side * bend, y - 0.02 * b, z - 0.17 * c), (own * a, 0.42 * b, (0.06 + 0.9 * own) * c))
        occipital = ellipsoid((x - side * 0.3 * a, y + 0.42 * b, z - 0.02 * c), (0.9 * own * a, 0.22 * b, own * c))
        temporal = ellipsoid((x - side * 0.48 * a, y + 0.05 * b, z + 0.3 * c), (0.6 * own * a, 0.2 * b, 0.5 * own * c))
        for part in (body, occipital, temporal):
            head[(part * (1 + 0.12 * warp) < 1) & (depth > 0)] = Material.CSF
    third = ellipsoid((x, y - 0.02 * b, z + 0.05 * c), (rng.uniform(0.015, 0.06) * a, 0.15 * b, 0.14 * c))
    fourth = ellipsoid((x, y + 0.36 * b, z + 0.55 * c), (0.08 * a, 0.07 * b, 0.12 * c))
    head[((third < 1) & (depth > 0)) | ((fourth < 1) & (head != Material.AIR))] = Material.CSF
