"""Limbic grey matter: insula, hippocampus, amygdala, cingulate, and cortex that is as bright as those on FLAIR."""

from __future__ import annotations

import numpy as np

from rarevoxel.phantom.fields import smooth_field
from rarevoxel.phantom.scene.canvas import Map, Spacing
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.pairs import Axes, Field, Place, Size, add_pairs

MEDIAL_TEMPORAL: tuple[Place, ...] = (
    ((0.38, -0.12, -0.34), (0.09, 0.24, 0.09)),
    ((0.34, 0.14, -0.35), (0.11, 0.1, 0.11)),
)
"""Hippocampus, a long body, and amygdala, a ball in front of it."""


def add_limbic(
    head: Map, at: Axes, size: Size, insular: Field, warp: Field, rng: np.random.Generator, spacing: Spacing
) -> None:
    """Draw the limbic grey matter of both sides into a brain.

    That it is brighter than the rest of the cortex on FLAIR is normal, and the commonest thing to be taken for disease.

    Args:
        head: drawn into.
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        insular: distance in mm to the fissure over the insula, see `lateral_distance`.
        warp: smooth field of unit variance `(H, W, D)` that makes shapes irregular.
        rng: source of randomness.
        spacing: voxel size in mm.

    References:
        Hirai et al. 2000, Limbic lobe of the human brain: evaluation with turbo fluid-attenuated inversion-recovery MR
        imaging, doi:10.1148/radiology.215.2.r00ma06470.
    """
    fine = smooth_field(rng, head.shape, spacing, 14 * size[0] / 67)  # type: ignore[arg-type]
    reach = rng.uniform(3, 7) * size[0] / 67
    head[(head == Material.GREY) & (insular < reach * (1 + 0.3 * fine))] = Material.LIMBIC
    add_pairs(head, head != Material.AIR, Material.LIMBIC, MEDIAL_TEMPORAL, (0.75, 1.2), at, size, warp, rng)
    add_cingulate(head, at, size, fine, rng)
    add_bright_cortex(head, fine, rng)


def add_cingulate(head: Map, at: Axes, size: Size, fine: Field, rng: np.random.Generator) -> None:
    """Turn the cortex along the midline, up to an arch above the ventricles, into limbic grey matter.

    Args:
        head: drawn into.
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        fine: smooth field of unit variance that makes its border uneven.
        rng: source of randomness.
    """
    (x, y, z), (a, b, c) = at, size
    arch = np.sqrt((y / (0.62 * b)) ** 2 + ((z - 0.08 * c) / (0.58 * c)) ** 2) + 0.06 * fine
    medial = (np.abs(x) < rng.uniform(0.08, 0.2) * a) & (z > -0.05 * c)
    head[medial & (head == Material.GREY) & (arch < rng.uniform(0.8, 0.98))] = Material.LIMBIC


def add_bright_cortex(head: Map, fine: Field, rng: np.random.Generator) -> None:
    """Turn patches of any cortex into limbic grey matter: where it is bright differs from head to head.

    Args:
        head: drawn into.
        fine: smooth field of unit variance; the patches are its peaks.
        rng: source of randomness.
    """
    if rng.random() < 0.15:
        head[(head == Material.GREY) & (fine > rng.uniform(0.6, 2.0))] = Material.LIMBIC
