"""Cases for the statistics benchmark: synthetic heads as whole numbers in compressed files, at any size."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
from heads import write_head

from rarevoxel.volumes import write_labels


def write_case(folder: Path, seed: int, scale: float = 1.0) -> Path:
    """Write four sequences and a label map as BraTS names them: a head in the middle of an empty volume.

    Args:
        folder: of the case; its name is the name of the case.
        seed: of the head.
        scale: of the number of voxels along each axis; 1 is 240 x 240 x 155 at 1 mm.
    """
    labels = write_head(folder, seed, mm=1 / scale, prefix=f"{folder.name}-")
    write_labels(folder / f"{folder.name}-seg.nii.gz", labels, np.diag([1 / scale] * 3 + [1.0]))
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
