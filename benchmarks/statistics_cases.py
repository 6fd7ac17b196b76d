"""Cases for the statistics benchmark: synthetic heads as whole numbers in compressed files, at any size."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np

from rarevoxel.cases import SEQUENCES
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import draw_scene
from rarevoxel.volumes import write_labels, write_volume

SHAPE = (240, 240, 155)
HEAD_MM = (144.0, 184.0, 144.0)


def write_head(folder: Path, seed: int, scale: float = 1.0) -> Path:
    """Write four sequences and a label map as BraTS names them: a head in the middle of an empty volume.

    Args:
        folder: of the case; its name is the name of the case.
        seed: of the head.
        scale: of the number of voxels along each axis; 1 is 240 x 240 x 155 at 1 mm.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(round(scale * n) for n in SHAPE)
    head = tuple(8 * max(1, round(scale * mm / 8)) for mm in HEAD_MM)
    spacing = tuple(mm / n for mm, n in zip(HEAD_MM, head, strict=True))
    scene = draw_scene(rng, head, spacing, "glioma")
    images, scene = examine(scene, rng, missing=())
    place = tuple(slice((n - h) // 2, (n - h) // 2 + h) for n, h in zip(shape, head, strict=True))
    affine = np.diag([*spacing, 1.0])
    folder.mkdir(parents=True)
    for name, image in zip(SEQUENCES, images, strict=True):
        whole = np.zeros(shape, dtype=np.int16)
        whole[place] = np.where(image != 0, np.clip(np.rint(900 * image / image.max()), 1, None), 0)
        write_volume(folder / f"{folder.name}-{name}.nii.gz", whole, affine)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[place] = scene.labels
    write_labels(folder / f"{folder.name}-seg.nii.gz", labels, affine)
    _age(folder)
    return folder


def write_copies(root: Path, source: Path, count: int) -> Path:
    """Write `count` cases with the same voxels: what a scan costs does not depend on how they differ."""
    for number in range(count):
        case = root / f"BraTS-GLI-{number:05d}-000"
        case.mkdir(parents=True)
        for path in source.iterdir():
            shutil.copyfile(path, case / path.name.replace(source.name, case.name))
        _age(case)
    return root


def _age(folder: Path) -> None:
    # A cache does not believe the time of a file that was written just now; real files are older.
    then = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (then, then))
