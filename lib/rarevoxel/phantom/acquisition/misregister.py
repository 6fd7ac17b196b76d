"""One sequence that does not lie exactly on the others."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from rarevoxel.phantom.acquisition.linear import shift_line
from rarevoxel.phantom.fields import Array


def misregister(
    image: Array,
    spacing: tuple[float, float, float],
    *,
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Array:
    """Turn an image about the middle of the volume, then move it, linearly interpolated; the edge is held.

    Args:
        image: one sequence `(H, W, D)`.
        spacing: voxel size in mm.
        shift_mm: how far the image moves along each axis, in mm.
        rotation_deg: angles about the three axes, in that order, in degrees.

    Returns:
        float32 `(H, W, D)`; the image itself where nothing moves.
    """
    voxels = [mm / step for mm, step in zip(shift_mm, spacing, strict=True)]
    if not any(rotation_deg):
        for axis, by in enumerate(voxels):
            image = shift_line(image, by, axis)
        return image
    step = np.asarray(spacing)
    turn = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    # Output voxels are looked up in the input, so the inverse (transposed) rotation, in voxels.
    matrix = turn.T * step / step[:, None]
    middle = (np.asarray(image.shape) - 1) / 2
    offset = middle - matrix @ (middle + voxels)
    return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest"), dtype=np.float32)
