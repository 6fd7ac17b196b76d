"""Structures that come in pairs: an ellipsoid on either side of the midline."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.fields import ellipsoid
from rarevoxel.phantom.scene.canvas import Map
from rarevoxel.phantom.scene.material import Material

Field = npt.NDArray[np.float32]
Axes = tuple[Field, Field, Field]
Size = tuple[float, float, float]
Place = tuple[Size, Size]
"""Centre and half extents as shares of the brain's half extents; the centre of the side where x grows."""


def add_pairs(
    head: Map,
    where: npt.NDArray[np.bool_],
    material: Material,
    places: Iterable[Place],
    vary: tuple[float, float],
    at: Axes,
    size: Size,
    warp: Field,
    rng: np.random.Generator,
) -> None:
    """Draw an ellipsoid on both sides for each place.

    Args:
        head: drawn into.
        where: mask `(H, W, D)` of what may be drawn over.
        material: what they are made of.
        places: see `Place`.
        vary: smallest and largest factor of each half extent, the same on both sides.
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        warp: smooth field of unit variance that makes shapes irregular.
        rng: source of randomness.
    """
    (x, y, z), (a, b, c) = at, size
    for (u, v, w), (p, q, r) in places:
        p, q, r = (value * rng.uniform(*vary) for value in (p, q, r))
        for side in (-1.0, 1.0):
            radius = ellipsoid((x - side * u * a, y - v * b, z - w * c), (p * a, q * b, r * c))
            head[where & (radius * (1 + 0.12 * warp) < 1)] = material
