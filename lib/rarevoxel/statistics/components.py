"""The sizes of the connected components of a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.statistics.box import nonzero_box

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def component_sizes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the voxels of every component, largest first; components touch over faces, edges or corners.

    Args:
        mask: `(H, W, D)`; only the box around what is true is looked at.

    Returns:
        `(N,)`, empty for an empty mask.
    """
    box = nonzero_box(mask)
    if box is None:
        return np.empty(0, dtype=np.int64)
    # Which axis is which does not matter here; how they lie in memory does.
    part = mask[box].T if mask.flags.f_contiguous else mask[box]
    found, _ = ndimage.label(part, structure=_TOUCHING)
    return np.sort(np.bincount(found[part])[1:])[::-1]
