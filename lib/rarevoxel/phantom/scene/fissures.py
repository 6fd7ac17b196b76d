"""Fissures: where the surface of the brain turns inwards, between the hemispheres and at their sides."""

from __future__ import annotations

import numpy as np

from rarevoxel.phantom.scene.pairs import Axes, Field, Size


def midline_distance(at: Axes, size: Size, bottom: float) -> Field:
    """Return the distance in mm to the sheet between the hemispheres, which ends above what joins them.

    Args:
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        bottom: height of its lower edge between the front and back parts, where it goes all the way down, as a share
            of the brain's half height.
    """
    (x, y, z), (_, b, c) = at, size
    below = np.maximum(np.minimum(bottom * c - z, 0.55 * b - np.abs(y)), -0.3 * c - z)
    return np.asarray(np.hypot(x, np.maximum(below, 0)), dtype=np.float32)


def lateral_distance(at: Axes, size: Size, warp: Field, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Return distances in mm to the lateral fissures, to the part of them that covers the insula, and outwards of that.

    A fissure is a sheet that goes in from the side of the brain, and at its end a second one across, like a T that
    lies on its side. The third distance is negative on the inner side of the insula.

    Args:
        at: coordinates in mm along each axis, broadcastable, 0 in the middle.
        size: half extents of the brain in mm.
        warp: smooth field of unit variance `(H, W, D)` that makes shapes irregular.
        rng: source of randomness.
    """
    (x, y, z), (a, b, c) = at, size
    unit = a / 67
    front = (y - 0.06 * b) / (rng.uniform(0.24, 0.34) * b)
    up = (z + 0.06 * c) / (rng.uniform(0.2, 0.32) * c)
    bent = rng.uniform(1, 3.5) * unit * warp
    place = rng.uniform(0.5, 0.58) * a * (1 - 0.12 * front * front) + bent
    outwards = np.abs(x) - place
    beyond = np.maximum(np.sqrt(front * front + up * up) - 1, 0) * 0.28 * c
    across = np.hypot(outwards, beyond)
    level = z + 0.06 * c - rng.uniform(-0.15, 0.3) * (0.06 * b - y) - 1.5 * bent
    ends = np.maximum(np.abs(front) - 1, 0) * 0.28 * b
    inwards = np.sqrt(level * level + np.maximum(-outwards, 0) ** 2 + ends * ends)
    nearest = np.minimum(across, inwards)
    return nearest.astype(np.float32), across.astype(np.float32), outwards.astype(np.float32)
