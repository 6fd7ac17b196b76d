"""Labels that were not accepted, kept aside byte for byte, so that nobody's work is lost to a refusal."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rarevoxel.clock import utc_now
from rarevoxel.volumes import SUFFIXES, file_sha256, replace_file

logger = logging.getLogger(__name__)

FOLDER = "rejected"

PER_CASE = 50
"""Labels kept aside for one case; the oldest go first."""

LARGEST_TOTAL = 1 << 30
"""Bytes kept aside for all cases together; the oldest go first."""


class Rejected:
    """`rejected/<case>/<UTC time>-<start of the sha256>.<suffix>`, each with a `.json` that says why.

    Args:
        studies: the studies folder.
        per_case: see `PER_CASE`.
        largest_total: see `LARGEST_TOTAL`.
    """

    def __init__(self, studies: str | Path, per_case: int = PER_CASE, largest_total: int = LARGEST_TOTAL) -> None:
        self.root = Path(studies) / FOLDER
        self.per_case = per_case
        self.largest_total = largest_total

    def keep(self, case: str, file: Path, why: Mapping[str, Any]) -> Path | None:
        """Keep a copy of a file that was refused; that it cannot be kept is only logged.

        Args:
            case: case id.
            file: as it was received.
            why: error, user and parameters, for the record.

        Returns:
            The copy, None when it could not be made.
        """
        if not self.root.parent.is_dir():
            return None
        try:
            sha = file_sha256(file)
            time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
            target = self.root / case / f"{time}-{sha[:12]}{_suffix(file)}"
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                shutil.copyfile(file, temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            record = {"case": case, "ts": utc_now(), "file": target.name, "sha256": sha, **why}
            replace_file(_record_of(target), (json.dumps(record, indent=1, default=str) + "\n").encode())
            self._prune(case)
        except OSError as error:
            logger.warning("a refused label of case %s could not be kept aside: %s", case, error.strerror or error)
            return None
        return target

    def files(self, case: str = "*") -> list[Path]:
        """Return what is kept aside, of one case or of all, oldest first."""
        found = [path for path in self.root.glob(f"{case}/*") if path.suffix != ".json" and path.name[0] != "."]
        return sorted(found, key=lambda path: path.name)

    def _prune(self, case: str) -> None:
        kept = self.files(case)
        surplus = kept[: max(0, len(kept) - self.per_case)]
        everything = [path for path in self.files() if path not in set(surplus)]
        sizes = {path: path.stat().st_size for path in everything}
        total = sum(sizes.values())
        # The newest stays, whatever its size.
        for path in everything[:-1]:
            if total <= self.largest_total:
                break
            total -= sizes[path]
            surplus.append(path)
        for path in surplus:
            path.unlink(missing_ok=True)
            _record_of(path).unlink(missing_ok=True)


def _suffix(file: Path) -> str:
    name = file.name.lower()
    return next((suffix for suffix in (".seg.nrrd", *SUFFIXES) if name.endswith(suffix)), ".bin")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")
