"""Limbic grey matter: insula, hippocampus, amygdala and cingulate, thick and on FLAIR brighter than other cortex."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.scene.canvas import Map
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.pairs import Axes, Field, Place, Size, add_pairs

MEDIAL_TEMPORAL: tuple[Place, ...] = (
    ((0.38, -0.12, -0.34), (0.09, 0.24, 0.09)),
    ((0.34, 0.14, -0.35), (0.11, 0.1, 0.11)),
)
"""Hippocampus, a long body, and amygdala, a ball in front of it."""


def add_limbic(head: Map, at: Axes, size: Size, warp: Field, rng: np.random.Generator) -> None:
    """Draw the limbic grey matter of both sides into a brain.

    That it is brighter than the rest of the cortex on FLAIR is normal, and the commonest thing to be taken for disease.

    Args:
        head: drawn into.
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        warp: smooth field of unit variance `(H, W, D)` that makes shapes irregular.
        rng: source of randomness.

    References:
        Hirai et al. 2000, Limbic lobe of the human brain: evaluation with turbo fluid-attenuated inversion-recovery MR
        imaging, doi:10.1148/radiology.215.2.r00ma06470.
    """
    brain = head != Material.AIR
    add_insula(head, at, size, warp, rng, brain)
    add_pairs(head, brain, Material.LIMBIC, MEDIAL_TEMPORAL, (0.75, 1.2), at, size, warp, rng)
    add_cingulate(head, at, size, warp, rng, brain)


def add_insula(
    head: Map, at: Axes, size: Size, warp: Field, rng: np.random.Generator, brain: npt.NDArray[np.bool_]
) -> None:
    """A curved sheet of grey matter deep in the lateral fissure, fluid on its outer side."""
    (x, y, z), (a, b, c) = at, size
    unit = a / 67
    thickness, gap = rng.uniform(3, 6.5) * unit, rng.uniform(0, 4) * unit
    front = (y - 0.06 * b) / (rng.uniform(0.24, 0.34) * b)
    up = (z + 0.06 * c) / (rng.uniform(0.2, 0.32) * c)
    window = brain & (front * front + up * up < 1)
    place = rng.uniform(0.52, 0.6) * a * (1 - 0.12 * front * front) + rng.uniform(0.5, 2) * unit * warp
    outwards = np.abs(x) - place
    head[window & (np.abs(outwards) < thickness / 2)] = Material.LIMBIC
    head[window & (outwards >= thickness / 2) & (outwards < thickness / 2 + gap)] = Material.CSF


def add_cingulate(
    head: Map, at: Axes, size: Size, warp: Field, rng: np.random.Generator, brain: npt.NDArray[np.bool_]
) -> None:
    """An arch of cortex on both sides of the midline, above the ventricles."""
    (x, y, z), (a, b, c) = at, size
    inner, outer = rng.uniform(0.66, 0.74), rng.uniform(0.86, 1.0)
    arch = np.sqrt((y / (0.62 * b)) ** 2 + ((z - 0.08 * c) / (0.58 * c)) ** 2) * (1 + 0.04 * warp)
    ribbon = (arch > inner) & (arch < outer) & (np.abs(x) < rng.uniform(0.06, 0.12) * a) & (z > -0.05 * c)
    head[brain & ribbon & (head != Material.CSF)] = Material.LIMBIC
