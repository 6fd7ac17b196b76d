"""Mass effect: a growing tumour pushes the brain aside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from rarevoxel.phantom.scene.canvas import Map, Spacing, box_around, offsets_mm
from rarevoxel.phantom.scene.material import Material


def push_aside(head: Map, centre: tuple[int, ...], radius_mm: float, strength: float, spacing: Spacing) -> Map:
    """Return the head with its contents displaced outwards from a voxel.

    What ends at distance r came from `r (1 - strength exp(-(r / (2 radius))^2))`: everything near the centre moves
    out, far away nothing does, and as strength < 1 the map is monotone in r, so that nothing folds.

    Args:
        head: map of materials `(H, W, D)`.
        centre: voxel it is pushed away from.
        radius_mm: of the mass.
        strength: 0 (nothing moves) to below 1; 0.4 is a strong mass effect.
        spacing: voxel size in mm.
    """
    if strength <= 0:
        return head
    box = box_around(centre, 5 * radius_mm, head.shape, spacing)
    x, y, z = offsets_mm(centre, box, spacing)
    pull = strength * np.exp(-(x * x + y * y + z * z) / (2 * radius_mm) ** 2)
    coordinates = [
        (c + offset * (1 - pull) / step).astype(np.float32)
        for c, offset, step in zip(centre, (x, y, z), spacing, strict=True)
    ]
    moved = head.copy()
    moved[box] = ndimage.map_coordinates(head, coordinates, order=0, mode="nearest")
    # The skull does not give way: what would leave the head is lost, and what comes in from outside is fluid.
    moved[head == Material.AIR] = Material.AIR
    moved[(moved == Material.AIR) & (head != Material.AIR)] = Material.CSF
    return moved
