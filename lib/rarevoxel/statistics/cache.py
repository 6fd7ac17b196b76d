"""Results that are kept with what they were computed from, and used again only while that is the same."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarevoxel.bundled import default_cache
from rarevoxel.volumes import file_sha256, replace_file

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever a result would come out differently or is written differently: old entries are then not found."""

_SETTLED_NS = 2_000_000_000
"""Nanoseconds after which a file's time can be believed; some file systems count in steps of two seconds."""

Stamp = list[int]


@dataclass(frozen=True)
class ResultCache:
    """Results by the files they were computed from, one entry a file, so that any number of processes may share it.

    A file is taken to be the same when its path, size, modification time and inode are; when only the size is, its
    SHA-256 decides. An entry carries a checksum of its own: one that is damaged, torn or of another version counts for
    nothing. A cache that cannot be written is as good as none.

    Args:
        folder: where the entries lie; made when absent.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> ResultCache:
        """Return the cache in the user's cache folder, see `rarevoxel.bundled.default_cache`."""
        return cls(default_cache() / "statistics")

    def recall(self, what: str, files: Sequence[Path]) -> Any | None:
        """Return what `seal` computed, if the files are the same, else None.

        Args:
            what: what was computed, with all its options.
            files: the files it was computed from.
        """
        place = self._place(what, files)
        stamps = _stamps(files)
        try:
            entry = _opened(place.read_bytes())
        except (OSError, ValueError):
            return None
        known = entry["files"]
        if stamps is None or len(known) != len(files):
            return None
        changed = False
        for path, stamp, (old, digest) in zip(files, stamps, known, strict=True):
            if stamp == old and stamp[1] < entry["written_ns"] - _SETTLED_NS:
                continue
            if stamp[0] != old[0] or not _holds(path, digest):
                return None
            changed = True
        if changed:
            digests = [digest for _, digest in known]
            self.keep(what, files, _sealed(stamps, digests, entry["result"]))
        return entry["result"]

    def keep(self, what: str, files: Sequence[Path], sealed: bytes | None) -> None:
        """Store what `seal` returned; None stores nothing."""
        if sealed is None:
            return
        try:
            replace_file(self._place(what, files), sealed, durable=False)
        except OSError as error:
            logger.debug("result not kept: %s", error.strerror)

    def _place(self, what: str, files: Sequence[Path]) -> Path:
        key = json.dumps([VERSION, what, [str(path.absolute()) for path in files]])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def seal(files: Sequence[Path], compute: Callable[[], Any]) -> tuple[Any, bytes | None]:
    """Compute a JSON-able result and return it together with what `ResultCache.keep` stores.

    Args:
        files: all that the result depends on.
        compute: reads them.

    Returns:
        The result, and None in place of the entry if a file is gone or changed meanwhile.
    """
    before = _stamps(files)
    result = compute()
    try:
        digests = [file_sha256(path) for path in files]
    except OSError:
        return result, None
    return result, _sealed(before, digests, result) if before and before == _stamps(files) else None


def _stamps(files: Sequence[Path]) -> list[Stamp] | None:
    # What is wrong with a file is for whoever reads it to say.
    try:
        return [_stamp(path) for path in files]
    except OSError:
        return None


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _holds(path: Path, digest: str) -> bool:
    try:
        return file_sha256(path) == digest
    except OSError:
        return False


def _sealed(stamps: Sequence[Stamp], digests: Sequence[str], result: Any) -> bytes:
    files = list(zip(stamps, digests, strict=True))
    body = json.dumps({"written_ns": time.time_ns(), "files": files, "result": result}).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _opened(sealed: bytes) -> Mapping[str, Any]:
    """Return the entry.

    Raises:
        ValueError: if its bytes are not those that were written.
    """
    digest, _, body = sealed.partition(b"\n")
    if digest.decode(errors="replace") != hashlib.sha256(body).hexdigest():
        raise ValueError("damaged entry")
    entry: Mapping[str, Any] = json.loads(body)
    return entry
