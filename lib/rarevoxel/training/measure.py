"""Reading every labelled case once: what can be trained on, its sizes, its checksums, and why the rest cannot."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rarevoxel.cases import find_sequences
from rarevoxel.errors import ConflictError, GeometryError, RareVoxelError
from rarevoxel.labels import CLIENT_SCHEME
from rarevoxel.learning.quality import check_for_training
from rarevoxel.lineage import CaseRecord
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.training.places import LabelledCase
from rarevoxel.training.split import Split
from rarevoxel.transforms import load_sequences, missing_of
from rarevoxel.volumes import Grid, file_sha256, read_label_volume

logger = logging.getLogger(__name__)


@dataclass
class Measured:
    """The cases of a run as they were found.

    Attributes:
        usable: cases that can be used.
        statistics: case id -> sizes, of the usable ones.
        sequences: case id -> sequence name -> SHA-256 of its file.
        labels: case id -> SHA-256 of the label file.
        missing: case id -> the sequences it does not have, of the usable ones that lack some; zeros stand for them.
        skipped: case id -> why it cannot be used; no paths.
        findings: what the label checks noticed in usable cases.
    """

    usable: list[LabelledCase] = field(default_factory=list)
    statistics: dict[str, CaseStatistics] = field(default_factory=dict)
    sequences: dict[str, dict[str, str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """A checksum of all files the usable cases are made of."""
        return hashlib.sha256(json.dumps([self.sequences, self.labels], sort_keys=True).encode()).hexdigest()

    def content(self, case: str) -> str:
        """Return a checksum of the files a usable case is made of."""
        text = json.dumps([self.sequences[case], self.labels[case]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def without_folders(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """Return reasons by case id with the folders of these cases left out."""
        by_id = {case.id: case for case in self.usable}
        return {case: without_folders(reason, by_id[case]) for case, reason in reasons.items()}

    def records(self, split: Split) -> tuple[CaseRecord, ...]:
        """Return the usable cases as the lineage holds them."""
        return tuple(
            CaseRecord(
                case.id,
                case.patient,
                split.side(case.id),
                self.sequences[case.id],
                self.labels[case.id],
                case.label_version,
                case.empty,
            )
            for case in self.usable
        )

    def check_tumour(self, train: Sequence[str]) -> None:
        """Raise unless there is something to learn.

        Args:
            train: ids of the cases to learn from.

        Raises:
            ConflictError: if no label of these has any tumour.
        """
        if any(self.statistics[case].structure("WT").voxels for case in train):
            return
        every = "all labels" if len(train) == len(self.usable) else f"the labels of all {len(train)} training cases"
        msg = f"{every} are empty of tumour, expected at least one training case with some: {', '.join(train)}"
        raise ConflictError(msg, "label and submit cases with tumour, then train again")


def measure_cases(cases: Sequence[LabelledCase]) -> Measured:
    """Read, check and measure every case; those that cannot be used are listed with their reason.

    Args:
        cases: cases with accepted labels.
    """
    measured = Measured()
    for case in cases:
        try:
            _measure(case, measured)
        except RareVoxelError as error:
            reason = without_folders(str(error), case)
            logger.warning("left out: %s: %s", case.id, reason)
            measured.skipped[case.id] = reason
        except OSError as error:
            logger.warning("left out: %s: %s", case.id, error.strerror)
            measured.skipped[case.id] = f"{case.id}: cannot be read ({error.strerror})"
    return measured


def without_folders(text: str, case: LabelledCase) -> str:
    """Return a message with the folders a case lies in left out of its file names."""
    folders = {folder for path in (case.image, case.label) for folder in (path.parent, path.resolve().parent)}
    # Of a case that is not complete, the folders of its own files are enough.
    with contextlib.suppress(RareVoxelError):
        folders |= {path.parent for path in find_sequences(case.image).values()}
    for folder in sorted({str(folder) for folder in folders}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(folder, "the case's folder")
    return text


def _measure(case: LabelledCase, measured: Measured) -> None:
    volume = read_label_volume(case.label)
    CLIENT_SCHEME.check(volume.array, case.id)
    image = load_sequences(case.image)
    grid = Grid(tuple(image.shape[1:]), image.affine.numpy())
    if not grid.matches(volume.grid, tol=1e-2):
        msg = f"{case.id}: label grid {volume.grid.describe()} is not the image's {grid.describe()}"
        raise GeometryError(msg, "save the label on the display volume's grid")
    found = check_for_training(case.image, case.label, case.id, case.empty)
    files: Mapping[str, Path] = find_sequences(case.image)
    statistics = case_statistics(volume.array, volume.grid.spacing, case.id)
    measured.sequences[case.id] = {name: file_sha256(path) for name, path in files.items()}
    measured.labels[case.id] = file_sha256(case.label)
    if missing_of(image):
        measured.missing[case.id] = list(missing_of(image))
        logger.warning("%s is without %s", case.id, ", ".join(missing_of(image)))
    measured.statistics[case.id] = statistics
    measured.findings += [{"case": case.id, **finding.to_dict()} for finding in found]
    measured.usable.append(case)
