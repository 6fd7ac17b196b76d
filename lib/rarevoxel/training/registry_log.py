"""The log of a model's registry: one line per change, only ever added to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rarevoxel.clock import utc_now


class RegistryLog:
    """What was done to the weights of a model, by whom and when.

    Args:
        path: the file; a JSON object per line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        """Return what was done, oldest first; a line torn by a crash is left out."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return [entry for entry in entries if isinstance(entry, dict)]

    def append(self, action: str, version: str, sha256: str, user: str) -> None:
        """Add a line, and see it on the disk.

        Args:
            action: `published`, `rolled back` or `recovered`.
            version: name of the version that serves now.
            sha256: of its weight file.
            user: who asked for it.

        Raises:
            OSError: if it cannot be written.
        """
        entry = {"ts": utc_now(), "action": action, "version": version, "sha256": sha256, "user": user}
        before = self.path.read_bytes() if self.path.is_file() else b""
        # A line torn by a crash is ended first, so that it does not take this one with it.
        start = b"\n" if before and not before.endswith(b"\n") else b""
        with self.path.open("ab") as stream:
            stream.write(start + json.dumps(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
