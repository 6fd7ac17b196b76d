"""Writing one volume: whole or not at all, with one affine that every reader agrees on."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.volumes.files import replace_file, volume_suffix
from rarevoxel.volumes.grid import check_affine
from rarevoxel.volumes.itk_format import itk_image

_WRITABLE = (".nii.gz", ".nii", ".nrrd")


def write_labels(path: str | Path, array: npt.NDArray[np.uint8], affine: npt.NDArray[Any]) -> None:
    """Write a label map, atomically.

    Args:
        path: `.nii.gz`, `.nii` or `.nrrd` (compressed); missing folders are made.
        array: uint8 labels `(H, W, D)`.
        affine: 4x4, RAS+ mm.

    Raises:
        InputError: if the array is not uint8, not 3-D, or the suffix cannot be written.
        GeometryError: if the affine describes no orthogonal grid.
        OSError: if the disk is full or the folder cannot be written; an old file stays as it was.
    """
    if array.dtype != np.uint8:
        msg = f"{path}: labels have type {array.dtype}, expected uint8"
        raise InputError(msg, "cast whole numbers with astype(np.uint8)")
    write_volume(path, array, affine)


def label_bytes(array: npt.NDArray[np.uint8], affine: npt.NDArray[Any]) -> bytes:
    """Return the `.nii.gz` that `write_labels` writes, for a caller that puts several files in place as one.

    Raises:
        GeometryError: if the affine describes no orthogonal grid.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine)
    return _nifti_bytes(array, affine, ".nii.gz")


def write_volume(path: str | Path, array: npt.NDArray[Any], affine: npt.NDArray[Any]) -> None:
    """Write a volume of any real type, atomically; the same input gives the same bytes.

    sform and qform are both set (code 1, scanner), so readers that prefer either place the volume alike.

    Args:
        path: `.nii.gz`, `.nii` or `.nrrd` (compressed); missing folders are made.
        array: `(H, W, D)`.
        affine: 4x4, RAS+ mm.

    Raises:
        InputError: if the array is not 3-D or the suffix cannot be written.
        GeometryError: if the affine describes no orthogonal grid.
        OSError: if the disk is full or the folder cannot be written; an old file stays as it was.
    """
    path = Path(path)
    suffix = volume_suffix(path)
    if suffix not in _WRITABLE:
        raise InputError(f"{path}: cannot write {suffix}, expected one of {', '.join(_WRITABLE)}")
    if array.ndim != 3:
        raise InputError(f"{path}: array is {array.ndim}-D with shape {array.shape}, expected 3-D (H, W, D)")
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, path)
    replace_file(path, _nrrd_bytes(array, affine) if suffix == ".nrrd" else _nifti_bytes(array, affine, suffix))


def _nifti_bytes(array: npt.NDArray[Any], affine: npt.NDArray[np.float64], suffix: str) -> bytes:
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    data: bytes = image.to_bytes()
    return gzip.compress(data, compresslevel=4, mtime=0) if suffix == ".nii.gz" else data


def _nrrd_bytes(array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> bytes:
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "volume.nrrd"
        sitk.WriteImage(itk_image(array, affine), str(file), useCompression=True)
        return file.read_bytes()
