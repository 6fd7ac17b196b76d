"""Normal variants: tissue that looks like disease but is the same on both sides, or lies across the midline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.fields import ellipsoid
from rarevoxel.phantom.scene.canvas import Map
from rarevoxel.phantom.scene.material import Material
from rarevoxel.phantom.scene.pairs import Axes, Field, Place, Size, add_pairs

MOST = 5
"""Variants of one head."""


def add_variants(
    head: Map, where: npt.NDArray[np.bool_], at: Axes, size: Size, warp: Field, rng: np.random.Generator
) -> None:
    """Draw up to `MOST` variants anywhere into a brain, each a pair or across the midline.

    No anatomy is complete. What a network should learn instead of every structure there is: brain that mirrors itself
    is healthy, however bright.

    Args:
        head: drawn into.
        where: mask `(H, W, D)` of what may be drawn over.
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        warp: smooth field of unit variance `(H, W, D)` that makes shapes irregular.
        rng: source of randomness.
    """
    for _ in range(rng.integers(1, MOST + 1)):
        material = rng.choice((Material.VARIANT, Material.LIMBIC, Material.NUCLEUS), p=(0.6, 0.3, 0.1))
        extent = np.exp(rng.uniform(np.log(0.06), np.log(0.2), size=3))  # Larger than most lesions of white matter.
        across = (
            rng.uniform(0.35, 0.85) if rng.random() < 0.8 else rng.uniform(0.12, 0.35)
        )  # Beside ventricles, rarely.
        centre = (across, rng.uniform(-0.8, 0.8), rng.uniform(-0.7, 0.75))
        shape = (float(extent[0]), float(extent[1]), float(extent[2]))
        if rng.random() < 0.7:
            place: Place = (centre, shape)
            add_pairs(head, where, material, [place], (0.9, 1.1), at, size, warp, rng)
        else:
            offsets = [axis - share * half for axis, share, half in zip(at, (0.0, *centre[1:]), size, strict=True)]
            axes = [share * half for share, half in zip(shape, size, strict=True)]
            radius = ellipsoid((offsets[0], offsets[1], offsets[2]), (axes[0], axes[1], axes[2]))
            head[where & (radius * (1 + 0.12 * warp) < 1)] = material
