"""The process that draws pictures and measures labels for a server, so that neither costs the server its time.

It reads one JSON object a line from stdin, answers with one a line on stdout, and ends when stdin does, so with the
server.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rarevoxel.errors import RareVoxelError
from rarevoxel.report.dashboard.drawing import case_picture, case_thumbnail, label_sizes
from rarevoxel.volumes import replace_file

NICENESS = 10
SIZES, PICTURE, THUMBNAIL = "sizes", "picture", "thumbnail"

_DRAW = {PICTURE: case_picture, THUMBNAIL: case_thumbnail}


def do(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do one job.

    Args:
        job: `kind`; for sizes `label`; for pictures `image`, `proposal` and `label` (paths, the last two may be null)
            and `to`, where the PNG goes.

    Returns:
        `result`, the sizes or null; `error`, in words without paths, empty when it was done.
    """
    try:
        if job["kind"] == SIZES:
            return {"result": label_sizes(Path(job["label"])), "error": ""}
        paths = [Path(job[key]) if job.get(key) else None for key in ("proposal", "label")]
        target = Path(job["to"])
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, _DRAW[job["kind"]](Path(job["image"]), *paths), durable=False)
    except (RareVoxelError, OSError, ValueError, MemoryError) as error:
        return {"result": None, "error": f"{type(error).__name__}: {_told(error, job)}"}
    return {"result": None, "error": ""}


def serve(lines: Iterator[str] | TextIO, out: TextIO) -> None:
    """Answer every line with one."""
    for line in lines:
        out.write(json.dumps(do(json.loads(line))) + "\n")
        out.flush()


def _told(error: Exception, job: Mapping[str, Any]) -> str:
    text = (getattr(error, "strerror", None) if isinstance(error, OSError) else str(error)) or ""
    for key in ("image", "proposal", "label", "to"):
        if job.get(key):
            text = text.replace(str(job[key]), "the file")
    return text


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    serve(sys.stdin, sys.stdout)
