"""A scene while it is being drawn: healthy anatomy, the disease in it, how strongly it shows, and the labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.scene.material import LABEL_OF, Material

Map = npt.NDArray[np.uint8]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]

FULL = 255
"""Density of a voxel that is nothing but disease."""


@dataclass(frozen=True)
class Scene:
    """A brain and what is in it, before any scanner has seen it.

    Attributes:
        healthy: `(H, W, D)` of healthy `Material` values, also where disease lies above them.
        disease: `(H, W, D)` of diseased `Material` values, 0 where there is none.
        density: `(H, W, D)`, share of the signal that is the disease's, in 1/255; disease may show faintly where no
            annotator would mark it.
        labels: `(H, W, D)` of `CLIENT_LABELS`: the truth.
        spacing: voxel size in mm.
    """

    healthy: Map
    disease: Map
    density: Map
    labels: Map
    spacing: Spacing

    @property
    def brain(self) -> npt.NDArray[np.bool_]:
        """Where the head's contents are."""
        return np.asarray(self.healthy != Material.AIR)

    def crop(self, box: Box) -> Scene:
        """Return the part in a box, without copying."""
        return Scene(self.healthy[box], self.disease[box], self.density[box], self.labels[box], self.spacing)

    def mirrored(self) -> Scene:
        """Return the scene with left and right exchanged, without copying."""
        return self.crop((slice(None, None, -1), slice(None), slice(None)))


def empty_scene(healthy: Map, spacing: Spacing) -> Scene:
    """Return a scene without disease; its maps may be drawn into."""
    disease, density, labels = (np.zeros_like(healthy) for _ in range(3))
    return Scene(healthy, disease, density, labels, spacing)


def paint(
    scene: Scene, box: Box, where: npt.NDArray[np.bool_], material: npt.ArrayLike, density: npt.ArrayLike = FULL
) -> None:
    """Put disease into a box of a scene and label it.

    Args:
        scene: drawn into.
        box: part of it.
        where: mask of the size of the box.
        material: disease per voxel of the mask, or one for all.
        density: 0 to 255 per voxel of the mask, or one for all.
    """
    material = np.broadcast_to(np.asarray(material, dtype=np.uint8), np.count_nonzero(where))
    scene.disease[box][where] = material
    scene.density[box][where] = density
    scene.labels[box][where] = LABEL_OF[material]


def box_around(centre: tuple[int, ...], reach_mm: float, shape: tuple[int, ...], spacing: Spacing) -> Box:
    """Return the box of half edge `reach_mm` around a voxel, cut to the volume."""
    reach = [int(np.ceil(reach_mm / step)) for step in spacing]
    first, second, third = (
        slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(centre, reach, shape, strict=True)
    )
    return first, second, third


def offsets_mm(centre: tuple[int, ...], box: Box, spacing: Spacing) -> tuple[npt.NDArray[np.float32], ...]:
    """Return broadcastable distances in mm from a voxel along each axis of a box."""
    axes = [
        ((np.arange(b.start, b.stop) - c) * step).astype(np.float32)
        for c, b, step in zip(centre, box, spacing, strict=True)
    ]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
