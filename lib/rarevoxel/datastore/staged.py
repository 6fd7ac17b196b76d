"""Several files changed as one: everything that can fail for want of space happens before the first name changes."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from types import TracebackType

from rarevoxel.volumes.files import sync_folder

SUFFIX = ".staged.tmp"
"""Temporary files of a `Staged`. They exist only under the folder's lock, so those that are found there are dead."""


class Staged:
    """Files to replace and to remove, in the order in which they were named.

    `replace` writes a temporary file beside its target and flushes it to the disk; `commit` renames and removes, in
    order, flushing each folder. A process that dies meanwhile leaves a prefix of the steps; a disk that is full leaves
    nothing changed. Use it as a context manager: temporaries that were not committed are removed.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Path | None, Path]] = []

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary, _ in self._steps:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def replace(self, target: Path, data: bytes) -> None:
        """Put `data` in place of `target` when committed; missing folders are made.

        Raises:
            OSError: if the disk is full or the folder cannot be written.
        """
        make_folder(target.parent)
        temporary = target.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
        self._steps.append((temporary, target))
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def take(self, temporary: Path, target: Path) -> None:
        """Put a file that was written beside `target` before, and flushed, in its place when committed."""
        self._steps.append((temporary, target))

    def remove(self, target: Path) -> None:
        """Remove `target` when committed, if it is there."""
        self._steps.append((None, target))

    def commit(self) -> None:
        """Carry out the steps.

        Raises:
            OSError: if one fails; those before it have been carried out.
        """
        for temporary, target in self._steps:
            if temporary is None:
                target.unlink(missing_ok=True)
            else:
                temporary.replace(target)
            sync_folder(target.parent)
        self._steps.clear()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each name flushed to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove_stale(folder: Path, older_than: float | None = None) -> None:
    """Remove what writers that died have left in a folder, not below it. Wants the lock of the studies folder held.

    Args:
        folder: where to look.
        older_than: seconds after which the temporary files of others, who need no lock, count as left too.
    """
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        left = path.name.endswith(SUFFIX)
        if not left and older_than is not None:
            left = path.is_file() and time.time() - path.stat().st_mtime > older_than
        if left:
            path.unlink(missing_ok=True)
