"""Putting one file into a studies folder: as a link where the file system has links, else as a copy."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def place(source: Path, target: Path, *, copy: bool, relative: bool = False) -> None:
    """Make `target` hold what `source` holds, replacing it in one step; does nothing if it already does.

    Args:
        source: an existing file.
        target: link or copy to make; missing folders are made.
        copy: copy even where links work.
        relative: let the link name `source` relative to the folder of `target`.

    Raises:
        OSError: if neither a link nor a copy can be made; an old `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        name = os.path.relpath(source, target.parent) if relative else str(source.resolve())
        if target.is_symlink() and str(target.readlink()) == name:
            return
        try:
            _replace(target, lambda temporary: temporary.symlink_to(name))
        except (OSError, NotImplementedError):
            pass  # No links here (FAT, some network shares, Windows without the privilege).
        else:
            return
    if not _is_copy(source, target):
        _replace(target, lambda temporary: _copy(source, temporary))


def _copy(source: Path, target: Path) -> None:
    # The time stamp makes a copy recognisable; permissions are not taken over, a source is often read-only.
    shutil.copyfile(source, target)
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _is_copy(source: Path, target: Path) -> bool:
    if target.is_symlink() or not target.exists():
        return False
    old, new = target.stat(), source.stat()
    return (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)


def _replace(target: Path, make: Callable[[Path], object]) -> None:
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        make(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
