"""Reading one volume: its grid, its voxels as float32, or its labels as whole numbers, each checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.volumes.files import check_file, volume_suffix
from rarevoxel.volumes.grid import Grid
from rarevoxel.volumes.itk_format import read_itk
from rarevoxel.volumes.nifti import read_nifti


class Volume(NamedTuple):
    """Voxels and the grid they lie on.

    Attributes:
        array: `(H, W, D)`, or `(H, W, D, C)` where a 4-D file was allowed.
        grid: the grid of the three spatial axes.
    """

    array: npt.NDArray[Any]
    grid: Grid


def read_header(path: str | Path, *, allow_4d: bool = False) -> Grid:
    """Read where the voxels of a file lie, without reading the voxels.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd` (also `.seg.nrrd`), `.mha` or `.mhd`.
        allow_4d: accept `(H, W, D, C)`; the grid is that of the first three axes.

    Returns:
        The grid, affine in RAS+ mm whatever the format's own convention.

    Raises:
        InputError: if the file is missing, empty, a placeholder, unreadable, or not 3-D.
        GeometryError: if the affine describes no orthogonal grid, or sform and qform disagree.
    """
    return _read(Path(path), data=False, allow_4d=allow_4d)[1]


def read_channels(path: str | Path) -> int:
    """Return how many volumes a file holds (1 for 3-D), without reading the voxels.

    Raises:
        InputError: as `read_header`.
        GeometryError: as `read_header`.
    """
    shape = _read(Path(path), data=False, allow_4d=True)[2]
    return shape[3] if len(shape) == 4 else 1


def read_volume(path: str | Path, *, allow_4d: bool = False) -> Volume:
    """Read an image as float32, scaled by the file's slope and intercept.

    The result does not depend on how the file stores the numbers: integer or float, scaled or not, big- or
    little-endian, compressed or not. Trailing axes of length one are dropped.

    Args:
        path: see `read_header`.
        allow_4d: accept `(H, W, D, C)`.

    Returns:
        float32 voxels and their grid.

    Raises:
        InputError: as `read_header`, and if the data are short or corrupt, or hold NaN or infinite voxels.
        GeometryError: as `read_header`.
    """
    path = Path(path)
    array, grid, _ = _read(path, data=True, allow_4d=allow_4d)
    with np.errstate(over="ignore"):
        voxels = np.asarray(array).astype(np.float32)
    _check_finite(voxels, path)
    return Volume(voxels, grid)


def read_voxels(path: str | Path, *, allow_4d: bool = False) -> Volume:
    """Read voxels in their stored type, scaled where the header scales, with whatever NaN or fractions there are.

    Args:
        path: see `read_header`.
        allow_4d: accept `(H, W, D, C)`.

    Returns:
        Voxels and their grid.

    Raises:
        InputError: as `read_header`, and if the data are short or corrupt.
        GeometryError: as `read_header`.
    """
    array, grid, _ = _read(Path(path), data=True, allow_4d=allow_4d, labels=True)
    return Volume(np.asarray(array), grid)


def read_labels(path: str | Path) -> npt.NDArray[Any]:
    """Read a label map `(H, W, D)` as whole numbers; `read_label_volume` returns the grid too.

    Raises:
        InputError: as `read_label_volume`.
        GeometryError: as `read_header`.
    """
    return read_label_volume(path).array


def read_label_volume(path: str | Path) -> Volume:
    """Read a label map and its grid.

    Args:
        path: see `read_header`.

    Returns:
        uint8 labels `(H, W, D)`, or int64 where a value does not fit, and their grid. Nothing is said about which
        values are allowed: that is `LabelScheme.check`.

    Raises:
        InputError: as `read_volume`, and if a value is not a whole number.
        GeometryError: as `read_header`.
    """
    path = Path(path)
    data, grid, _ = _read(path, data=True, allow_4d=False, labels=True)
    array = np.asarray(data)
    _check_finite(array, path)
    if array.dtype.kind == "f":
        fractions = array[array != np.rint(array)]
        if fractions.size:
            listed = ", ".join(f"{v:g}" for v in np.unique(fractions)[:4])
            msg = f"{path}: {fractions.size} label voxels are not whole numbers ({listed}), expected integers"
            raise InputError(msg, "resample label maps with nearest neighbour; probabilities are no labels")
    if array.dtype == np.uint8:
        return Volume(array, grid)
    fits = array.size == 0 or (array.min() >= 0 and array.max() <= np.iinfo(np.uint8).max)
    return Volume(array.astype(np.uint8 if fits else np.int64), grid)


def check_image(volume: Volume, path: str | Path) -> None:
    """Raise if an image carries no information.

    Args:
        volume: what `read_volume` returned; of a 4-D volume each channel is checked.
        path: named in errors.

    Raises:
        InputError: if every voxel (of one channel) has the same value; a single voxel may have any but 0.
    """
    channels = volume.array[..., None] if volume.array.ndim == 3 else volume.array
    for index in range(channels.shape[3]):
        channel = channels[..., index]
        low, high = float(channel.min()), float(channel.max())
        if low == high and (channel.size > 1 or low == 0):  # One voxel alone has nothing to differ from.
            where = f"{path}, channel {index}" if volume.array.ndim == 4 else f"{path}"
            msg = f"{where}: image is constant, all {channel.size} voxels are {low:g}; expected a scan with contrast"
            raise InputError(msg, "export the sequence again; an all-zero file is often a failed conversion")


def _read(
    path: Path, *, data: bool, allow_4d: bool, labels: bool = False
) -> tuple[npt.NDArray[Any] | None, Grid, tuple[int, ...]]:
    suffix = volume_suffix(path)
    check_file(path)
    read = read_nifti if suffix in (".nii", ".nii.gz") else read_itk
    shape, affine, array = read(path, suffix, data)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    dims = "x".join(str(n) for n in shape)
    if min(shape, default=0) < 1:
        raise InputError(f"{path}: volume of {dims or 'no'} voxels is empty, expected three axes of at least one voxel")
    if len(shape) != 3 and not (allow_4d and len(shape) == 4):
        msg = f"{path}: volume is {len(shape)}-D ({dims}), expected 3-D"
        raise InputError(msg, _dimension_hint(len(shape), labels))
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    return (None if array is None else array.reshape(shape, order="A")), grid, shape


def _dimension_hint(ndim: int, labels: bool) -> str:
    if ndim < 3:
        return "give the whole scan as one volume, not a single slice"
    if labels:
        return "give one map of whole numbers, not one channel a class; in 3D Slicer export a labelmap"
    return "give one file per sequence; a folder of 4-D files needs a dataset.json that names their channels"


def _check_finite(array: npt.NDArray[Any], path: Path) -> None:
    if array.dtype.kind != "f":
        return
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        msg = f"{path}: {bad} of {array.size} voxels are NaN or infinite, expected finite numbers"
        raise InputError(msg, "repair the voxels (often 0 outside the brain) and save the file again")
