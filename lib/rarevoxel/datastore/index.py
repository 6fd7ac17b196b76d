"""The host's index of a studies folder, `datastore_v2.json`: a cache that can be made again from what it lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rarevoxel.datastore.history import Record, index_info
from rarevoxel.errors import InputError

NAME = "datastore_v2.json"

Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Return modification time (ns), size and inode of a file, by which a change is noticed; None when missing."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def parse_index(data: bytes) -> dict[str, Any]:
    """Return the content of an index.

    Raises:
        InputError: when it is empty, torn, of a newer version, or not laid out as expected.
    """
    try:
        content = json.loads(data)
    except ValueError as error:
        raise InputError(f"index is {'torn' if data.strip() else 'empty'} ({len(data)} bytes)") from error
    if not isinstance(content, dict):
        raise InputError(f"index is a JSON {type(content).__name__}, expected an object")
    if content.get("version", 2) != 2:
        raise InputError(f"index has version {content['version']!r}, expected 2")
    objects = content.get("objects")
    if not isinstance(objects, dict):
        raise InputError("index lists no objects")
    for case, entry in objects.items():
        if "/" in case or "\0" in case or not _is_object(entry):
            raise InputError(f"index has an entry {case[:40]!r} that is not laid out as expected")
    return content


def index_bytes(content: Mapping[str, Any]) -> bytes:
    """Return an index as its file holds it."""
    return json.dumps(content, indent=2, default=str).encode()


def keep_bad(path: Path) -> Path:
    """Move an index that cannot be used aside, under a name with the time; returns the new name."""
    time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
    target = path.with_name(f"{path.name}.{time}.bad")
    path.replace(target)
    return target


def with_label(path: Path, record: Record) -> tuple[Path, bytes] | None:
    """Return the index with a label's new version entered, None when there is no index that could be mended.

    For whoever changes a label without the host: the host makes the entry itself when it finds none.
    """
    try:
        content = parse_index(path.read_bytes())
    except (FileNotFoundError, InputError):
        return None
    entry = content["objects"].get(record.case)
    if entry is None:
        return None
    entry.setdefault("labels", {})[record.tag] = {"ext": ".nii.gz", "info": index_info(record)}
    return path, index_bytes(content)


def _is_object(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and _is_file(entry.get("image"))
        and isinstance(entry.get("labels", {}), dict)
        and all("/" not in tag and _is_file(label) for tag, label in entry.get("labels", {}).items())
    )


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("ext", ""), str) and isinstance(entry.get("info", {}), dict)
