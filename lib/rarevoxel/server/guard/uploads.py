"""Files from clients: kept under names of our own, gone when the request is over, bounded when they unfold."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from rarevoxel.errors import InputError, RareVoxelError, TooLargeError, storage_error
from rarevoxel.volumes import read_channels, read_header

LABEL_VOXELS = 1 << 27
"""Most voxels of a label map (512^3)."""
IMAGE_VOXELS = 1 << 29
"""Most voxels of an image, all channels together; as float32 that is 2 GiB."""

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""What can be uploaded. Not `.mhd`: it names another file, which would be one of the server's."""

_NIFTI = {(348).to_bytes(4, order) for order in ("little", "big")} | {
    (540).to_bytes(4, order) for order in ("little", "big")
}
_HEADER = 64 * 1024


def suffix_of(start: bytes, name: str) -> str:
    """Return what a file should be called by its first bytes; its name counts only where those say nothing.

    Args:
        start: first bytes of the file.
        name: what the client calls it.

    Returns:
        One of `SUFFIXES`; `.nii.gz` for what is nothing known.
    """
    if start.startswith(b"\x1f\x8b"):
        return ".nii.gz"
    if start.startswith(b"NRRD"):
        return ".nrrd"
    if start[:4] in _NIFTI:
        return ".nii"
    if start[:64].lstrip().startswith(b"ObjectType"):
        return ".mha"
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), ".nii.gz")


@contextmanager
def stored(stream: IO[bytes], name: str, voxels: int, what: str) -> Iterator[Path]:
    """Keep an upload in a temporary file while the block runs.

    Args:
        stream: the upload.
        name: what the client calls it; used for nothing but a last guess at its format.
        voxels: most voxels it may unfold to.
        what: for messages, such as `label of case x`.

    Yields:
        The file, directly in the temporary folder.

    Raises:
        TooLargeError: if it unfolds to more.
        InputError: if its header points to another file.
        StorageError: if the disk is full.
    """
    stream.seek(0)
    start = stream.read(64)
    stream.seek(0)
    path = None
    try:
        try:
            # Whatever the random letters in between are, this name never tells a sequence.
            descriptor, made = tempfile.mkstemp(prefix="upload-", suffix=f"-volume{suffix_of(start, name)}")
            path = Path(made)
            with os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
        except OSError as error:
            raise storage_error(error, f"receiving the {what}") from error
        check_upload(path, voxels, what)
        yield path
    finally:
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def check_upload(path: Path, voxels: int, what: str) -> None:
    """Raise for a volume that unfolds to too much, or that takes its voxels from another file.

    What cannot be read at all passes: whoever reads it next says why, and may keep it aside.

    Raises:
        TooLargeError: with both numbers.
        InputError: for a header that names another file.
    """
    _check_attached(path, what)
    try:
        shape, channels = read_header(path, allow_4d=True).shape, read_channels(path)
    except RareVoxelError:
        return
    found = int(np.prod([*shape, channels], dtype=object))
    if found > voxels:
        dims = "x".join(str(n) for n in shape)
        msg = f"the {what} has {found} voxels ({dims}, {channels} channel(s)), expected at most {voxels}"
        raise TooLargeError(msg, "crop or resample it")


def _check_attached(path: Path, what: str) -> None:
    """Refuse headers that name another file: ITK would read any file of the server that they name."""
    if path.suffix not in (".nrrd", ".mha"):
        return
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    lines = [line.strip().lower() for line in head.split(b"\n\n" if path.suffix == ".nrrd" else b"\0")[0].splitlines()]
    if path.suffix == ".nrrd":
        detached = any(line.startswith((b"data file:", b"datafile:")) for line in lines)
    else:
        values = [line.partition(b"=")[2].strip() for line in lines if line.startswith(b"elementdatafile")]
        detached = values[:1] != [b"local"]
    if detached:
        msg = f"the {what} is a header that names another file for its voxels"
        raise InputError(msg, "send one file that holds both, such as .nii.gz")
