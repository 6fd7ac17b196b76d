"""Making an earlier version of a label the valid one again, with or without a server running."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rarevoxel.clock import utc_now
from rarevoxel.datastore.history import History, Record
from rarevoxel.datastore.index import NAME, with_label
from rarevoxel.datastore.store import LabelStore
from rarevoxel.errors import GeometryError, InputError, NotFoundError, storage_error
from rarevoxel.volumes import SUFFIXES, file_sha256, label_bytes, read_header, read_label_volume, volume_suffix

_GRID_TOLERANCE_MM = 1e-2


class Restored(NamedTuple):
    """What `restore` did.

    Attributes:
        record: the valid version.
        unchanged: whether it was that already.
    """

    record: Record
    unchanged: bool


def restore(studies: Path, case: str, tag: str, version: int, *, user: str, comment: str = "") -> Restored:
    """Make an earlier version the newest; the versions in between stay. A running server notices.

    Args:
        studies: the studies folder.
        case: case id.
        tag: label tag.
        version: the version to restore.
        user: who does it.
        comment: why.

    Raises:
        NotFoundError: for an unknown case or version.
        InputError: for a version that says the label was removed, or whose volume is not what its record says.
        GeometryError: when the image has been replaced by one on another grid.
        UnavailableError: when the folder cannot be written or another process keeps it locked.
        StorageError: when the disk is full; nothing was changed.
    """
    store = LabelStore(studies)
    image = _image(studies, case)
    try:
        with store.lock:
            current = store.settle(case, tag)
            if current is not None and current.record.version == version:
                return Restored(current.record, unchanged=True)
            source = store.history.get(case, tag, version)
            data = _volume(store.history, source, image)
            if current is not None and current.record.sha256 == source.sha256:
                return Restored(current.record, unchanged=True)
            reason = f"restored from version {version}"
            new = replace(source, version=0, ts=utc_now(), user=user, client_id="", reason=reason, comment=comment)
            record = store.commit(new, data, lambda record: with_label(Path(studies) / NAME, record))
    except OSError as error:
        raise storage_error(error, f"restoring the label of case {case}") from error
    return Restored(record, unchanged=False)


def _image(studies: Path, case: str) -> Path:
    images = (Path(studies) / f"{case}{suffix}" for suffix in SUFFIXES)
    found = next((path for path in images if path.is_file()), None)
    if found is None:
        raise NotFoundError(f"no case {case!r} in the studies folder", "its image must be there; see rarevoxel history")
    return found


def _volume(history: History, record: Record, image: Path) -> bytes:
    name = f"version {record.version} of label {record.tag!r} of case {record.case!r}"
    if record.removed:
        raise InputError(f"{name} says that the label was removed, there is nothing to restore", "restore another one")
    path = history.file(record.case, record.tag, record.version)
    if not path.is_file() or file_sha256(path) != record.sha256:
        raise InputError(f"{name}: its volume is missing or has changed since", "get the file back from a backup")
    label, grid = read_label_volume(path), read_header(image, allow_4d=True)
    if not grid.matches(label.grid, tol=_GRID_TOLERANCE_MM):
        msg = f"{name}: grid {label.grid.describe()}, but the image's is {grid.describe()}"
        raise GeometryError(msg, "the image has been replaced since; its old one is in the history")
    return path.read_bytes() if volume_suffix(path) == ".nii.gz" else label_bytes(label.array, label.grid.affine)
