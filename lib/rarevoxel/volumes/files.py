"""Volume files on disk: what they may be called, what is no volume at all, and how one is replaced safely."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from rarevoxel.errors import InputError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Suffixes of the formats that can be read; `.seg.nrrd` is an `.nrrd`."""

_LFS_POINTER = b"version https://git-lfs"

# DEFLATE cannot expand by more than 1032; a header that promises more than that cannot be kept by its file.
_LARGEST_RATIO = 1032


def volume_suffix(path: str | Path) -> str:
    """Return the suffix of a volume's file name, lower-case.

    Raises:
        InputError: if the name ends in none of `SUFFIXES`.
    """
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    msg = f"{path}: file name ends in {Path(name).suffix or 'no suffix'!r}, expected one of {', '.join(SUFFIXES)}"
    raise InputError(msg, "convert the file to NIfTI (for DICOM: dcm2niix) or correct its name")


def volume_stem(path: str | Path) -> str:
    """Return the file name without its volume suffix: `a/x.nii.gz` -> `x`, `a/x.seg.nrrd` -> `x`.

    Raises:
        InputError: if the name ends in none of `SUFFIXES`.
    """
    name = Path(path).name
    suffix = volume_suffix(path)
    stem = name[: -len(suffix)]
    return stem[: -len(".seg")] if suffix == ".nrrd" and stem.lower().endswith(".seg") else stem


def check_file(path: Path) -> None:
    """Raise unless `path` is a file with bytes of its own.

    Raises:
        InputError: if it is missing, a folder, unreadable, empty, or a git-LFS pointer.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a volume file")
    if not path.exists():
        what = f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "missing"
        raise InputError(f"{path}: file is {what}", "check the path, and that the disk it is on is mounted")
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_LFS_POINTER))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "check the file's permissions") from error
    if not start:
        raise InputError(f"{path}: file is empty (0 bytes)", "copy or download it again")
    if start == _LFS_POINTER:
        raise InputError(f"{path}: is a git-LFS pointer, not the volume itself", "run git lfs pull")


def check_promise(path: Path, promised: int, *, offset: int = 0, compressed: bool) -> None:
    """Raise if a header promises more data than its file can hold, before memory is set aside for it.

    Args:
        path: the file.
        promised: bytes of voxels by the header.
        offset: bytes before the voxels.
        compressed: whether the voxels are compressed.

    Raises:
        InputError: with both sizes.
    """
    size = path.stat().st_size
    if promised > size * _LARGEST_RATIO if compressed else promised + offset > size:
        msg = f"{path}: is truncated or its header is wrong: {size} bytes on disk, {promised + offset} expected"
        raise InputError(f"{msg}{' when decompressed' if compressed else ''}", "copy or download the file again")


def replace_file(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` so that a reader sees the whole old file or the whole new one, even after a crash.

    The bytes go to a hidden temporary file in the same folder, reach the disk, and then take the name; the folder
    itself is flushed, so that the name is there after a power cut too. The folder is made when absent.

    Args:
        path: the file.
        data: all of its bytes.
        durable: wait for the disk. Without, a power cut may leave a torn file: for what can be made again and carries
            a checksum.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the old file is untouched, no temporary is left.
    """
    path = Path(path)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            sync_folder(path.parent.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what a `replace_file` in this folder left behind because its process was killed.

    To be called only where no other process writes at the same time.
    """
    for path in folder.glob(f".{'[0-9a-f]' * 32}.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk; does nothing where the system has no such call (Windows)."""
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | flag)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # Some network file systems refuse it for folders.
    finally:
        os.close(descriptor)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
