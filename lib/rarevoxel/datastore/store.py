"""The labels of a studies folder and their history, changed together so that a kill at any instant loses nothing.

A change is written in the order version, record, label, index. What a process that died left half done is finished by
`LabelStore.settle`, which also takes in what people put into the folder by hand.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rarevoxel.datastore.history import FOUND, REMOVED, History, Record
from rarevoxel.datastore.lock import FolderLock
from rarevoxel.datastore.staged import Staged
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.volumes import SUFFIXES, file_sha256, replace_file, volume_suffix

logger = logging.getLogger(__name__)

LABELS = "labels"

IndexFile = Callable[[Record], tuple[Path, bytes] | None]
"""Returns the host's index as it must be after a change, None where there is none to keep."""


class Current(NamedTuple):
    """The version of a label that is valid now.

    Attributes:
        record: its record; of a label that has no history yet, the one it would get.
        recorded: whether the history holds it.
    """

    record: Record
    recorded: bool


class LabelStore:
    """Labels with history; every method that changes something wants the lock held.

    Args:
        studies: the studies folder.
    """

    def __init__(self, studies: str | Path) -> None:
        self.studies = Path(studies)
        self.history = History(studies)
        self.lock = FolderLock(studies)

    def path(self, case: str, tag: str) -> Path:
        """Return where a label of ours lies, or would."""
        return self.studies / LABELS / tag / f"{case}.nii.gz"

    def find(self, case: str, tag: str) -> Path | None:
        """Return the label's file, which others may have written in another format."""
        return next(iter(self._files(case, tag)), None)

    def unrecorded(self, case: str, tag: str) -> list[Record]:
        """Return the version that a label without history would get, for whoever only wants to look."""
        path = self.find(case, tag)
        return [] if path is None else [self._found(case, tag, path, 1)]

    def commit(self, record: Record, data: bytes, index: IndexFile) -> Record:
        """Make `data` the next version of a label.

        Args:
            record: what to record; its version and checksum are filled in.
            data: a `.nii.gz`.
            index: see `IndexFile`.

        Returns:
            The record as written.

        Raises:
            OSError: when something cannot be written; nothing was changed if the disk is full.
        """
        self._record_all(record.case, record.tag)
        number = self.history.next_number(record.case, record.tag)
        record = replace(record, version=number, sha256=hashlib.sha256(data).hexdigest())
        with Staged() as staged:
            staged.replace(self.history.file(record.case, record.tag, number), data)
            self._stage_record(staged, record)
            staged.replace(self.path(record.case, record.tag), data)
            for other in self._files(record.case, record.tag):
                if other != self.path(record.case, record.tag):
                    staged.remove(other)
            self._stage_index(staged, record, index)
            staged.commit()
        return record

    def remove(self, record: Record, index: IndexFile) -> Record:
        """Take a label away, with a version that says so; the earlier ones stay.

        Returns:
            The record as written.

        Raises:
            OSError: when something cannot be written.
        """
        case, tag = record.case, record.tag
        self._record_all(case, tag)
        record = replace(record, version=self.history.next_number(case, tag), sha256="")
        with Staged() as staged:
            self._stage_record(staged, record)
            for path in self._files(case, tag):
                staged.remove(path)
            self._stage_index(staged, record, index)
            staged.commit()
        return record

    def settle(self, case: str, tag: str, indexed: bool = False) -> Current | None:
        """Bring label and history together, and return the valid version.

        A newer record than the label on disk is an interrupted change, which is finished. A label on disk that no
        record knows, or an old one that was put back later than the newest record, was put there by somebody and
        becomes a version. A label that has no history at all stays as it is until its first change: giving every
        label of a large folder its first version would make the first start slow.

        Args:
            case: case id.
            tag: label tag.
            indexed: whether the index lists the label, so that it was there once: if it is gone, somebody removed it.

        Returns:
            None when the case has no label of this tag.

        Raises:
            OSError: when something cannot be read or written.
        """
        newest = self.history.newest(case, tag)
        path = self.find(case, tag)
        if newest is None:
            return None if path is None else Current(self._found(case, tag, path, 1), recorded=False)
        if path is None:
            return self._settle_absent(newest, indexed)
        sha = file_sha256(path)
        if sha == newest.sha256:
            return Current(newest, recorded=True)
        records = self.history.records(case, tag)
        changed = self.history.record_file(case, tag, newest.version).stat().st_mtime_ns
        if any(record.sha256 == sha for record in records) and path.stat().st_mtime_ns <= changed:
            if newest.removed:
                path.unlink()
                return None
            if self._roll_forward(newest):
                return Current(newest, recorded=True)
        return Current(self._adopt(case, tag, path), recorded=True)

    def unfinished(self, case: str, tag: str) -> Path | None:
        """Return the volume of a version whose record was never written: nobody was told that it was accepted."""
        numbers = self.history.numbers(case, tag)
        if not numbers:
            return None
        last, parts = list(numbers.items())[-1]
        recorded = [number for number, found in numbers.items() if ".json" in found]
        new = ".json" not in parts and last == max(recorded, default=0) + 1
        return self.history.file(case, tag, last) if new else None

    def _settle_absent(self, newest: Record, indexed: bool) -> Current | None:
        if newest.removed:
            return None
        folder = self.path(newest.case, newest.tag).parent
        if (not indexed or not folder.is_dir()) and self._roll_forward(newest):
            return Current(newest, recorded=True)
        number = self.history.next_number(newest.case, newest.tag)
        gone = Record(newest.case, newest.tag, number, "", reason=REMOVED, comment="its file was not there any more")
        with Staged() as staged:
            self._stage_record(staged, gone)
            staged.commit()
        return None

    def _roll_forward(self, record: Record) -> bool:
        """Put a recorded version in place; False when its volume is not what the record says."""
        volume = self.history.file(record.case, record.tag, record.version)
        if not volume.is_file() or file_sha256(volume) != record.sha256:
            msg = "version %d of label %r of case %s cannot be put in place: its volume is missing or changed"
            logger.warning(msg, record.version, record.tag, record.case)
            return False
        target = self.path(record.case, record.tag).with_name(record.case + volume_suffix(volume))
        replace_file(target, volume.read_bytes())
        logger.info("finished version %d of label %r of case %s", record.version, record.tag, record.case)
        return True

    def _record_all(self, case: str, tag: str) -> None:
        """Make versions of what lies in the folder and is about to be replaced."""
        current = self.settle(case, tag)
        if current is None:
            return
        known = {record.sha256 for record in self.history.records(case, tag)}
        for path in self._files(case, tag):
            if file_sha256(path) not in known:
                self._adopt(case, tag, path)

    def _adopt(self, case: str, tag: str, path: Path) -> Record:
        """Make a version of a label that lies in the folder."""
        number = self.history.next_number(case, tag)
        record = self._found(case, tag, path, number)
        with Staged() as staged:
            staged.replace(self.history.folder(case, tag) / f"{number:06d}{volume_suffix(path)}", path.read_bytes())
            self._stage_record(staged, record)
            staged.commit()
        logger.info("label %r of case %s was found in the folder and is now version %d", tag, case, number)
        return record

    def _found(self, case: str, tag: str, path: Path, number: int) -> Record:
        sha = file_sha256(path)
        modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="milliseconds")
        return Record(case, tag, number, sha, received_sha256=sha, ts=modified, reason=FOUND)

    def _files(self, case: str, tag: str) -> list[Path]:
        ours = self.path(case, tag)
        return [path for suffix in SUFFIXES if (path := ours.with_name(case + suffix)).is_file()]

    def _stage_record(self, staged: Staged, record: Record) -> None:
        staged.replace(self.history.record_file(record.case, record.tag, record.version), record.to_json())

    def _stage_index(self, staged: Staged, record: Record, index: IndexFile) -> None:
        if entry := index(record):
            staged.replace(*entry)


def label_sizes(labels: npt.NDArray[Any]) -> dict[str, int]:
    """Return label name -> voxels of a client label map, without labels that have none."""
    counts = np.bincount(labels.ravel(), minlength=max(CLIENT_LABELS.values()) + 1)
    return {name: int(counts[value]) for name, value in CLIENT_LABELS.items() if counts[value]}
