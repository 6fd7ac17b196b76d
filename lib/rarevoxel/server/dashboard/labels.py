"""The versions of all labels and the refused ones, read once each: histories only grow."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rarevoxel.datastore.history import FOUND, Record
from rarevoxel.datastore.rejected import Rejected
from rarevoxel.datastore.store import LabelStore
from rarevoxel.report.dashboard import LabelVersion, Refused
from rarevoxel.server.dashboard.made import LabelSizes

logger = logging.getLogger(__name__)

FINAL = "final"


class Labels:
    """Reads the labels of a studies folder again and again, and only what has changed from the disk.

    Args:
        store: of the labels.
        sizes: measures them.
        clean: takes paths out of sentences.
    """

    def __init__(self, store: LabelStore, sizes: LabelSizes, clean: Callable[[str], str]) -> None:
        self._store, self._sizes, self._clean = store, sizes, clean
        self._records: dict[str, tuple[int, list[Record]]] = {}
        self._rejected = Rejected(store.studies)
        self._refused: dict[str, tuple[int, list[Refused]]] = {}

    def versions(self, labelled: Iterator[str] | list[str]) -> tuple[list[LabelVersion], int]:
        """Return the versions of all final labels, oldest first, and of how many the sizes are not known yet.

        Args:
            labelled: cases that have a final label now; those without a history get a version 0.
        """
        found: list[LabelVersion] = []
        with_history = set()
        for case in self._cases(self._store.history.root):
            records = self._history(case)
            if records:
                with_history.add(case)
                found += [self._version(record) for record in records]
        for case in labelled:
            if case not in with_history and (path := self._store.find(case, FINAL)) is not None:
                found.append(self._unrecorded(case, path))
        found.sort(key=lambda one: (one.ts, one.case, one.version))
        # Nobody waits for sizes of a label that cannot be read: its volumes are empty, but known to be.
        return found, sum(not one.removed and not one.volumes and self._pending(one) for one in found)

    def of_case(self, case: str) -> list[LabelVersion]:
        """Return the versions of the final label of one case, oldest first."""
        records = self._history(case)
        if records:
            return [self._version(record) for record in records]
        path = self._store.find(case, FINAL)
        return [] if path is None else [self._unrecorded(case, path)]

    def refused(self, case: str = "") -> list[Refused]:
        """Return the labels that were refused, newest first, of one case or of all."""
        cases = [case] if case else list(self._cases(self._rejected.root))
        found = [one for name in cases for one in self._refused_of(name)]
        return sorted(found, key=lambda one: one.ts, reverse=True)

    def _cases(self, root: Path) -> Iterator[str]:
        try:
            with os.scandir(root) as entries:
                yield from sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            return

    def _history(self, case: str) -> list[Record]:
        folder = self._store.history.folder(case, FINAL)
        stamp = _changed(folder)
        known = self._records.get(case)
        if stamp is None:
            return []
        if known is None or known[0] != stamp:
            known = self._records[case] = (stamp, self._store.history.records(case, FINAL))
        return known[1]

    def _version(self, record: Record) -> LabelVersion:
        path = self._store.history.file(record.case, record.tag, record.version)
        sizes = None if record.removed else self._sizes.find(path)
        volumes, lesions = sizes or ({}, {})
        return LabelVersion(
            record.case,
            record.version,
            record.ts,
            removed=record.removed,
            empty=record.empty,
            reason=record.reason,
            effort=record.effort,
            findings=[{**finding, "message": self._clean(str(finding.get("message")))} for finding in record.findings],
            volumes=volumes,
            lesions=lesions,
        )

    def _unrecorded(self, case: str, path: Path) -> LabelVersion:
        volumes, lesions = self._sizes.find(path) or ({}, {})
        try:
            modified = path.stat().st_mtime
        except OSError:
            modified = 0.0
        ts = datetime.fromtimestamp(modified, timezone.utc).isoformat(timespec="milliseconds")
        return LabelVersion(case, 0, ts, reason=FOUND, volumes=volumes, lesions=lesions)

    def _pending(self, one: LabelVersion) -> bool:
        path = self._store.history.file(one.case, FINAL, one.version) if one.version else None
        path = path or self._store.find(one.case, FINAL)
        return path is not None and self._sizes.find(path) is None

    def _refused_of(self, case: str) -> list[Refused]:
        folder = self._rejected.root / case
        stamp = _changed(folder)
        if stamp is None:
            return []
        known = self._refused.get(case)
        if known is None or known[0] != stamp:
            found = [self._read(case, path) for path in sorted(folder.glob("*.json")) if path.name[0] != "."]
            known = self._refused[case] = (stamp, [one for one in found if one is not None])
        return known[1]

    def _read(self, case: str, path: Path) -> Refused | None:
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            error = dict(content["error"])
            codes = tuple(dict.fromkeys(str(finding["code"]) for finding in content.get("findings") or ()))
            message, hint = self._clean(str(error.get("message", ""))), self._clean(str(error.get("hint", "")))
            return Refused(case, str(content.get("ts", "")), message, hint, codes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("record of a refused label of case %s is not shown: %s", case, type(error).__name__)
            return None


def _changed(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
