"""NRRD and MetaImage through SimpleITK: what 3D Slicer and other ITK programs send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import GeometryError, InputError
from rarevoxel.volumes.files import check_promise
from rarevoxel.volumes.grid import check_affine

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HINT = "export it again, or save it as .nii.gz"


def read_itk(
    path: Path, suffix: str, data: bool
) -> tuple[tuple[int, ...], npt.NDArray[np.float64], npt.NDArray[Any] | None]:
    """Read shape, affine and, with `data`, the voxels of an `.nrrd`, `.mha` or `.mhd`.

    Args:
        path: an existing, non-empty file.
        suffix: as `volume_suffix` returns it.
        data: whether to read the voxels.

    Returns:
        Shape `(H, W, D)` or `(H, W, D, C)` in index order, affine in RAS+ mm (ITK's own world is LPS+), voxels or None.

    Raises:
        InputError: if SimpleITK cannot read the file, it promises more than it can hold, or it has fewer than 3 axes.
        GeometryError: if the direction cosines and spacing describe no orthogonal grid.
    """
    import SimpleITK as sitk

    with path.open("rb") as file:
        start = file.read(4)
    if suffix == ".nrrd" and start != b"NRRD":
        raise InputError(f"{path}: is not an NRRD file, it starts with {start!r}", _HINT)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, components = tuple(reader.GetSize()), reader.GetNumberOfComponents()
        shape = (*size, components) if components > 1 else size
        if len(size) < 3:
            dims = "x".join(str(n) for n in size)
            hint = "give the whole scan as one volume, not a single slice"
            raise InputError(f"{path}: volume is {len(size)}-D ({dims}), expected 3-D", hint)
        affine = itk_affine(reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin(), path)
        check_promise(path, int(np.prod(shape, dtype=object)), compressed=suffix != ".mhd")
        if not data:
            return shape, affine, None
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: is truncated or corrupt ({reason})", _HINT) from error
    axes = tuple(reversed(range(len(size))))
    return shape, affine, array.transpose((*axes, len(size)) if components > 1 else axes)


def itk_affine(
    direction: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...], path: Path
) -> npt.NDArray[np.float64]:
    """Return the RAS+ affine of ITK's direction (row-major), spacing and origin, of which the first three axes count.

    Raises:
        GeometryError: if they describe no orthogonal grid.
    """
    ndim = len(spacing)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (ndim, ndim))[:3, :3] * np.asarray(spacing)[:3]
    affine[:3, 3] = origin[:3]
    affine = _LPS_TO_RAS @ affine
    check_affine(affine, path)
    return affine


def itk_image(array: npt.NDArray[Any], affine: npt.NDArray[Any]) -> Any:
    """Return a SimpleITK image of `array` `(H, W, D)` on a RAS+ `affine`: the inverse of `read_itk`.

    Raises:
        GeometryError: if the affine describes no orthogonal grid.
    """
    import SimpleITK as sitk

    check_affine(affine)
    lps = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    try:
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    except RuntimeError as error:
        raise GeometryError(f"affine cannot be written in this format: {error}", "save it as .nii.gz") from error
    return image
