"""What all pictures of a gallery share: seeds, grid, and a contrast without noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.contrast import draw_relaxation, draw_sequences, keep_lesions
from rarevoxel.phantom.scene import PATIENTS, Material, Scene, draw_scene
from rarevoxel.phantom.signals import Texture, signals

Images = dict[str, npt.NDArray[np.float32]]

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")

WINDOW = (0.0, 1.5)
"""Signals without noise that are shown black and white; the brightest healthy tissue is about 1."""

_FIELD_MM = (144.0, 184.0, 144.0)


@dataclass(frozen=True)
class Studio:
    """What all pictures of a gallery share.

    Args:
        seed: of the whole gallery.
        spacing_mm: voxel size along every axis.
    """

    seed: int
    spacing_mm: float

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm."""
        return (self.spacing_mm,) * 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of a head."""
        x, y, z = (round(mm / self.spacing_mm) for mm in _FIELD_MM)
        return x, y, z

    def rng(self, *key: int) -> np.random.Generator:
        """Return the source of randomness of one picture."""
        return np.random.default_rng([self.seed, *key])

    def scene(self, kind: str) -> Scene:
        """Draw the patient of a kind."""
        return draw_scene(self.rng(0, list(PATIENTS).index(kind)), self.shape, self.spacing, kind)

    def clean(self, scene: Scene) -> Images:
        """Return noise-free signals in a contrast from physics, the same for all."""
        rng = self.rng(1)
        table = keep_lesions(draw_sequences(rng, draw_relaxation(rng)), rng)
        return dict(zip(SEQUENCES, signals(scene, table, Texture(), rng), strict=True))


def white_voxel(healthy: npt.NDArray[np.uint8], at: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the voxel of white matter nearest to a place, given as parts of the volume."""
    white = np.argwhere(healthy == Material.WHITE)
    target = np.asarray(at) * healthy.shape
    x, y, z = white[int(np.argmin(np.square(white - target).sum(axis=1)))]
    return int(x), int(y), int(z)
