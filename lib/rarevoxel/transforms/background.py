"""The background of a scan: one exact value, which becomes 0, so that the brain is every voxel that is not 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SHARE = 0.5
"""Share of the voxels on the faces of a volume from which one exact value is its background."""


def background_value(array: npt.NDArray[Any]) -> float:
    """Return the background of a volume `(H, W, D)`: the value of at least half the voxels on its six faces, else 0.

    Only exactly equal voxels count, so noise in the air of a scan that was not skull-stripped is no background. Of
    two values with half the faces each, 0 is the background. A voxel on an edge counts for each of its faces.

    Example:
        >>> volume = np.full((5, 5, 5), 100.0)
        >>> volume[2, 2, 2] = 0.0
        >>> background_value(volume)
        100.0
    """
    faces = np.concatenate([np.moveaxis(array, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)])
    least = SHARE * faces.size
    if np.count_nonzero(faces) <= faces.size - least:
        return 0.0
    # A value that fills half of the sorted faces covers one of the two voxels in their middle.
    middle = [(faces.size - 1) // 2, faces.size // 2]
    values = np.partition(faces, middle)[middle]
    return next((float(value) for value in values if np.count_nonzero(faces == value) >= least), 0.0)


def subtract_background(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a volume `(H, W, D)` minus its background, see `background_value`; the same array if that is 0.

    The background becomes exactly 0 and no other voxel does: floating-point numbers that differ have a difference.
    So a stripped scan to which an offset was added is what it was before (up to rounding), and a brain voxel of
    value 0 stays brain. A volume of nothing but its background (one voxel) is left as it is.

    Example:
        >>> volume = np.full((3, 3, 3), 100, np.float32)
        >>> volume[1, 1, 1] = 0
        >>> subtract_background(volume)[1].tolist()
        [[0.0, 0.0, 0.0], [0.0, -100.0, 0.0], [0.0, 0.0, 0.0]]
    """
    value = background_value(array)
    if value == 0 or bool((array == value).all()):
        return array
    return array - np.float32(value)
