"""The files of a model's weights: one published, some kept, and the small steps that change which is which."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from pathlib import Path

from rarevoxel.errors import ConflictError, ModelError
from rarevoxel.inference.sources import (
    STARTER,
    Kept,
    kept_versions,
    load_checked,
    read_sidecar,
    sidecar_of,
    versions_of,
)
from rarevoxel.lineage import Lineage
from rarevoxel.training.json_file import write_json
from rarevoxel.volumes import file_sha256, replace_file

logger = logging.getLogger(__name__)

_OLD_S = 24 * 3600


class Shelf:
    """Where the weights of one model lie.

    Every step replaces one file whole, in an order that may end anywhere: a version is complete before anything
    points to it, and the checksums allow both the old and the new file until the new one is there (see
    `rarevoxel.inference.sources`).

    Args:
        app_folder: the app folder that is served.
        model: model name.
    """

    def __init__(self, app_folder: Path, model: str) -> None:
        folder = app_folder / "model"
        self.model = model
        self.published = folder / f"{model}.pt"
        self.lineage_file = folder / f"{model}.lineage.json"
        self.starter = app_folder / "starter" / "starter.pt"

    def kept_as(self, sha256: str) -> Kept | None:
        """Return the version with this checksum; None if there is none."""
        return next((kept for kept in kept_versions(self.published) if kept.sha256 == sha256), None)

    def free_name(self, wanted: str) -> str:
        """Return a name no version has: the one wanted, or that with a number behind it."""
        taken = {path.stem for path in versions_of(self.published).glob("*.json")} | {STARTER}
        names = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def keep(self, path: Path, data: bytes, lineage: Lineage) -> None:
        """Write a version; it is one once its record is there."""
        replace_file(path, data)
        write_json(path.with_suffix(".json"), lineage.to_dict())

    def serve(self, path: Path, sha256: str) -> None:
        """Make a kept version the published file; every step alone leaves something that serves."""
        data = path.read_bytes()
        allowed = list(read_sidecar(self.published))
        if not allowed and self.published.is_file():
            allowed = [file_sha256(self.published)]
        self._allow(*allowed, sha256)
        replace_file(self.published, data)
        self.settle(sha256)

    def settle(self, sha256: str) -> None:
        """Write what lies beside a published file that is in its place."""
        kept = self.kept_as(sha256)
        if kept:
            replace_file(self.lineage_file, kept.path.with_suffix(".json").read_bytes())
        self._allow(sha256)

    def withdraw(self) -> None:
        """Let the starter serve again.

        Raises:
            ConflictError: if there is no starter.
        """
        if not self.starter.is_file():
            raise ConflictError(f"no starter weights for {self.model!r}: nothing would be in service")
        self._allow(STARTER)
        self.published.unlink(missing_ok=True)
        self.lineage_file.unlink(missing_ok=True)

    def stale_lineage(self, sha256: str) -> bool:
        """Say whether the lineage beside the published file is that of another version."""
        known = self.kept_as(sha256) is not None
        try:
            return known and Lineage.load(self.lineage_file).sha256 != sha256
        except ModelError:
            return known

    def adopt(self) -> None:
        """Keep a published file that is no version yet, so that it can be rolled back to."""
        if not self.published.is_file() or read_sidecar(self.published):
            return
        try:
            loaded = load_checked(self.published, ())
        except ModelError as error:
            logger.warning("not kept as a version: %s", error)
            return
        created = datetime.fromtimestamp(self.published.stat().st_mtime, timezone.utc).isoformat(
            timespec="milliseconds"
        )
        name = self.free_name(f"found-{loaded.sha256[:12]}")
        gate = {"publish": True, "reason": "found in the folder, never judged"}
        lineage = Lineage(self.model, name, created, loaded.sha256, gate=gate)
        path = versions_of(self.published) / f"{name}.pt"
        self.keep(path, self.published.read_bytes(), lineage)
        self.settle(loaded.sha256)

    def prune(self, keep: int, current: str) -> None:
        """Drop the oldest versions, never the one in service, and weight files a crash left without a record."""
        for kept in kept_versions(self.published)[keep:]:
            if kept.version != current:
                kept.path.with_suffix(".json").unlink(missing_ok=True)
                kept.path.unlink(missing_ok=True)
        for path in versions_of(self.published).glob("*.pt"):
            if not path.with_suffix(".json").is_file():
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that died left behind; of the folder shared with other models only what is old."""
        old = time.time() - _OLD_S
        for path in self.published.parent.glob(".*.tmp"):
            if path.stat().st_mtime < old:
                path.unlink(missing_ok=True)
        for path in versions_of(self.published).glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _allow(self, *checksums: str) -> None:
        lines = "".join(f"{checksum}  {self.published.name}\n" for checksum in dict.fromkeys(checksums))
        replace_file(sidecar_of(self.published), lines.encode())
