"""Which voxel stands for a set of voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.learning.quality.finding import Voxel

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, edge or corner belong together, as in `rarevoxel.statistics`."""


def first_voxel(mask: npt.NDArray[np.bool_]) -> Voxel:
    """Return the first true voxel of `mask` `(H, W, D)` in index order; it must have one."""
    i, j, k = (int(n) for n in np.unravel_index(int(np.argmax(mask)), mask.shape))
    return i, j, k


def central_voxel(mask: npt.NDArray[np.bool_]) -> Voxel:
    """Return the true voxel of `mask` `(H, W, D)` that is nearest to their centroid; it must have one."""
    voxels = np.argwhere(mask)
    away = np.square(voxels - voxels.mean(axis=0)).sum(axis=1)
    i, j, k = (int(n) for n in voxels[int(np.argmin(away))])
    return i, j, k


def largest_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest of the 26-connected components of `mask` `(H, W, D)`; it must have one."""
    labelled, _ = ndimage.label(mask, structure=TOUCHING)
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    found: npt.NDArray[np.bool_] = labelled == int(np.argmax(sizes))
    return found


def shifted(voxel: Voxel, box: tuple[slice, ...]) -> Voxel:
    """Return the voxel of the whole volume that `voxel` of a part is, `box` being where the part was cut out."""
    i, j, k = (n + int(cut.start) for n, cut in zip(voxel, box, strict=True))
    return i, j, k
