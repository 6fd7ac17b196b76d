"""Linear operators along one axis: a small matrix applied to every line of a volume, and shifts."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.phantom.fields import Array

Number = TypeVar("Number", np.float32, np.complex64)


def check_axis(axis: int) -> None:
    """Refuse an axis that a volume `(H, W, D)` does not have.

    Raises:
        InputError: the axis is not 0, 1 or 2.
    """
    if axis not in (0, 1, 2):
        raise InputError(f"axis {axis} of a volume (H, W, D) was asked for, expected 0, 1 or 2", "count axes from 0")


def along(image: Array, matrix: Array, axis: int) -> Array:
    """Multiply every line of `image` along `axis` by `matrix` `(n, n)`."""
    check_axis(axis)
    if axis == 0:
        flat: Array = matrix @ image.reshape(image.shape[0], -1)
        return flat.reshape(-1, *image.shape[1:])
    return np.asarray(np.matmul(matrix, image) if axis == 1 else np.matmul(image, matrix.T), dtype=np.float32)


def shift_line(image: npt.NDArray[Number], voxels: float, axis: int) -> npt.NDArray[Number]:
    """Move an image by `voxels` along one axis, linearly interpolated, the edge held for what comes in.

    `out[i] = (1 - f) * image[i - k] + f * image[i - k - 1]` with `voxels = k + f`.
    """
    if voxels == 0:
        return image
    whole = math.floor(voxels)
    fraction = np.float32(voxels - whole)
    out = np.zeros_like(image)
    _add_shifted(out, image, whole, axis, np.float32(1) - fraction)
    if fraction:
        _add_shifted(out, image, whole + 1, axis, fraction)
    return out


def _add_shifted(out: npt.NDArray[Number], image: npt.NDArray[Number], by: int, axis: int, weight: np.float32) -> None:
    n = image.shape[axis]
    by = min(max(by, -n), n)
    into, source = np.moveaxis(out, axis, 0), np.moveaxis(image, axis, 0)
    if by >= 0:
        into[by:] += weight * source[: n - by]
        into[:by] += weight * source[:1]
    else:
        into[:by] += weight * source[-by:]
        into[by:] += weight * source[-1:]
