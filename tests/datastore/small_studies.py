"""Labels and looks at folders that the tests of the datastore share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.volumes import label_bytes

SHAPE, AFFINE = (12, 10, 8), np.diag([2.0, 2.0, 2.0, 1.0])


def label_data(seed: int, shape: tuple[int, int, int] = SHAPE) -> bytes:
    """A `.nii.gz` of a label map that differs from seed to seed, as `write_labels` writes it."""
    return label_bytes(np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8), AFFINE)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files below a folder."""
    return list(folder.rglob(".*.tmp"))


def snapshot(folder: Path) -> dict[str, Any]:
    """Relative name -> bytes of every file, but for the lock's."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
