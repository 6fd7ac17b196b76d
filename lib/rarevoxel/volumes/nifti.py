"""NIfTI-1 and NIfTI-2 through nibabel, with every way a file can be broken turned into one sentence."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from rarevoxel.errors import GeometryError, InputError, RareVoxelError
from rarevoxel.volumes.files import check_promise
from rarevoxel.volumes.grid import AXIS_TOLERANCE, check_affine
from rarevoxel.volumes.inflate import inflate_whole

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 540
_LARGEST_TAIL = 1 << 20
_BROKEN = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError, HeaderDataError)


def read_nifti(
    path: Path, suffix: str, data: bool
) -> tuple[tuple[int, ...], npt.NDArray[np.float64], npt.NDArray[Any] | None]:
    """Read shape, affine and, with `data`, the scaled voxels of a single-file NIfTI.

    Args:
        path: an existing, non-empty file.
        suffix: `.nii` or `.nii.gz`.
        data: whether to read the voxels; those of a compressed file are checked against its checksum.

    Returns:
        Shape as stored, affine (RAS+, mm), and voxels in the stored type (float64 where the header scales) or None.

    Raises:
        InputError: if the file is no NIfTI, truncated, corrupt, or does not hold numbers.
        GeometryError: see `nifti_affine`.
    """
    with _opened(path, suffix) as (file, stream):
        block = stream.read(_HEADER_BYTES)
        kind = _image_class(block, path)
        raw = kind.header_class(block[: kind.header_class.template_dtype.itemsize], check=False)
        stream.seek(0)
        image = kind.from_stream(stream)
        dtype = image.get_data_dtype()
        if dtype.kind not in "iufb":
            raise InputError(
                f"{path}: voxels are {dtype}, expected one number a voxel", "convert colour to grey values"
            )
        shape = tuple(int(n) for n in image.shape)
        affine = nifti_affine(image.header, raw, path)
        promised = max(0, int(np.prod(shape, dtype=object))) * dtype.itemsize
        check_promise(path, promised, offset=int(image.dataobj.offset), compressed=suffix == ".nii.gz")
        if not data:
            return shape, affine, None
        if suffix == ".nii":
            return shape, affine, np.asarray(image.dataobj)
        end = int(image.dataobj.offset) + promised
        inflated = inflate_whole(file, end, end + _LARGEST_TAIL)
        if inflated is not None:
            return shape, affine, _voxels(image.dataobj, inflated)
        array = np.asarray(image.dataobj)
        _read_to_end(stream, path)
        return shape, affine, array


def _voxels(proxy: Any, inflated: bytearray) -> npt.NDArray[Any]:
    """Return what the proxy would read, scaled as it would scale, from the bytes of the whole file."""
    count = int(np.prod(proxy.shape, dtype=np.int64))
    stored = np.frombuffer(inflated, proxy.dtype, count, proxy.offset).reshape(proxy.shape, order="F")
    slope, intercept = np.float64(proxy.slope), np.float64(proxy.inter)
    return np.asarray(apply_read_scaling(stored, slope, intercept))


def _read_to_end(stream: IO[bytes], path: Path) -> None:
    """Have gzip compare its checksum, which it does only at the end of the stream; the array stops short of it."""
    left = _LARGEST_TAIL
    while block := stream.read(min(1 << 20, left + 1)):
        left -= len(block)
        if left < 0:
            msg = f"{path}: goes on for more than {_LARGEST_TAIL} bytes after the last voxel"
            raise InputError(msg, "save it again; what follows the voxels may be meant to unfold without end")


def nifti_affine(header: Any, raw: Any, path: Path) -> npt.NDArray[np.float64]:
    """Return the affine of a NIfTI header, refusing one that contradicts itself.

    Args:
        header: the header as nibabel repaired it.
        raw: the header as stored; nibabel replaces a zero `pixdim` by 1 mm in silence.
        path: named in errors.

    Raises:
        GeometryError: if a coded sform or qform describes no orthogonal grid, or both are coded and differ.
    """
    sform, sform_code = header.get_sform(coded=True)
    pixdim = np.asarray(raw["pixdim"], dtype=np.float64)[1:4]
    if sform_code:
        check_affine(sform, f"{path} (sform)")
    if not sform_code or int(header["qform_code"]):
        check_affine(np.diag([*pixdim, 1.0]), f"{path} (pixdim)")
    qform, qform_code = header.get_qform(coded=True)
    if qform_code:
        check_affine(qform, f"{path} (qform)")
    if sform_code and qform_code:
        difference = _difference(sform, qform)
        if difference > AXIS_TOLERANCE:
            msg = f"{path}: sform and qform differ by {difference:.4g}, expected at most {AXIS_TOLERANCE}: "
            msg += f"sform {_short(sform)}, qform {_short(qform)}"
            raise GeometryError(msg, "decide which one is right and store it as both, or clear the other one's code")
    return np.asarray(header.get_best_affine(), dtype=np.float64)


def _difference(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    # Directions are compared as unit vectors: a qform cannot hold the shear that an sform is allowed to have.
    spacing_a, spacing_b = (np.linalg.norm(m[:3, :3], axis=0) for m in (a, b))
    directions = np.abs(a[:3, :3] / spacing_a - b[:3, :3] / spacing_b).max()
    return float(max(directions, np.abs(spacing_a - spacing_b).max(), np.abs(a[:3, 3] - b[:3, 3]).max()))


def _short(affine: npt.NDArray[np.float64]) -> str:
    return "[" + "; ".join(" ".join(f"{x:.6g}" for x in row) for row in affine[:3]) + "]"


def _image_class(block: bytes, path: Path) -> Any:
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        header = kind.header_class
        size = header.template_dtype.itemsize
        if len(block) >= size and header.may_contain_header(block):
            if header(block[:size], check=False)["magic"].item()[:2] != kind.header_class().single_magic[:2]:
                raise InputError(f"{path}: is one half of a .hdr/.img pair", "convert the pair to one .nii file")
            return kind
    start = block[:24]
    what = f"text ({start.decode()!r}...)" if start.isascii() and start.decode().isprintable() else f"{start[:8]!r}..."
    raise InputError(f"{path}: is not a NIfTI file, it starts with {what}", "convert it to NIfTI or download it again")


@contextmanager
def _opened(path: Path, suffix: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file, as it is and decompressing; errors of nibabel and zlib while it is open become `InputError`."""
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            if suffix == ".nii.gz" and magic != _GZIP_MAGIC:
                msg = f"{path}: is not gzip-compressed though it is called .nii.gz, it starts with {magic!r}"
                raise InputError(msg, "rename it to .nii if it is an uncompressed NIfTI, else download it again")
            if suffix == ".nii" and magic == _GZIP_MAGIC:
                raise InputError(f"{path}: is gzip-compressed though it is called .nii", "rename it to .nii.gz")
            if suffix == ".nii":
                yield file, file
            else:
                with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                    yield file, cast("IO[bytes]", stream)
    except RareVoxelError:
        raise
    except _BROKEN as error:
        msg = f"{path}: is truncated or corrupt ({type(error).__name__}: {error})"
        raise InputError(msg, "copy or download the file again") from error
