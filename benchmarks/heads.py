"""Synthetic heads on disk, as large as a real examination."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rarevoxel.cases import SEQUENCES
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import draw_scene
from rarevoxel.volumes import write_volume

SHAPE = (240, 240, 155)
HEAD = (144, 184, 144)
"""Voxels of 1 mm of the volume, and of the head in its middle."""


def draw_head(seed: int, mm: float = 1.0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Draw a head with a glioma: the four sequences `(4, H, W, D)`, exactly 0 outside the brain, and the label map.

    Args:
        seed: of the head.
        mm: voxel size; the head covers the same room with any.
    """
    rng = np.random.default_rng(seed)
    head = (round(HEAD[0] / mm), round(HEAD[1] / mm), round(HEAD[2] / mm))
    images, shown = examine(draw_scene(rng, head, (mm, mm, mm), "glioma"), rng, missing=())
    return images, np.ascontiguousarray(shown.labels)


def write_head(folder: Path, seed: int, *, mm: float = 1.0, prefix: str = "") -> npt.NDArray[np.uint8]:
    """Write a head in the middle of a volume of the usual size, as whole numbers, and return its label map.

    Args:
        folder: made for four compressed files.
        seed: of the head.
        mm: voxel size; the volume covers the same room with any.
        prefix: of the file names.
    """
    images, found = draw_head(seed, mm)
    shape = tuple(round(n / mm) for n in SHAPE)
    folder.mkdir(parents=True)
    place = tuple(slice((n - h) // 2, (n - h) // 2 + h) for n, h in zip(shape, found.shape, strict=True))
    affine = np.diag([mm, mm, mm, 1.0])
    for name, image in zip(SEQUENCES, images, strict=True):
        whole = np.zeros(shape, dtype=np.int16)
        whole[place] = np.where(image != 0, np.clip(np.rint(900 * image / image.max()), 1, None), 0)
        write_volume(folder / f"{prefix}{name}.nii.gz", whole, affine)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[place] = found
    return labels
