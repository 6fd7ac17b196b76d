"""What the methods are compared on: phantoms of a regime, or one's own cases in folds of patients."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rarevoxel.cases import scan
from rarevoxel.errors import ConflictError, InputError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.phantom import SEVERITIES, PhantomSpec, write_phantoms
from rarevoxel.volumes import read_header

DATA_SEED = 80_000
"""Seed of the first phantom of a regime: far from those of the samples, the tests and the starter."""

_TUNED_FROM = 12
"""With fewer training patients than this none is put aside for tuning."""


@dataclass(frozen=True)
class Entry:
    """A labelled case on disk.

    Args:
        id: case id.
        image: display volume.
        label: label map of client values on its grid.
    """

    id: str
    image: str
    label: str

    def to_dict(self) -> dict[str, str]:
        """Return the case as the transforms take it."""
        return {"id": self.id, "image": self.image, "label": self.label}


PRETRAINING_SEED = 90_000
"""Seed of the first phantom of the common start."""

PRETRAINED_ON = ("mild", "moderate", "severe")
"""Regimes of the phantoms that the common start is trained on; none of them trains, tunes or tests a method."""


@dataclass(frozen=True)
class Fold:
    """Cases that are learned from, tuned on and judged with; a patient is on one side only.

    Args:
        regime: name of the data, the same for all folds of one set.
        name: name of the fold.
        train: cases to learn from.
        tune: cases for thresholds; may be empty.
        test: cases that judge.
        phantoms: whether the cases are synthetic.
    """

    regime: str
    name: str
    train: tuple[Entry, ...]
    tune: tuple[Entry, ...]
    test: tuple[Entry, ...]
    phantoms: bool


@dataclass(frozen=True)
class PhantomSet:
    """How the phantoms of a regime are made.

    Args:
        train: cases to learn from.
        tune: cases for thresholds.
        test: cases that judge.
        size: voxels `(H, W, D)`.
        spacing: voxel size in mm.
        seed: of the first regime's first case; another seed makes other cases, with other names.

    Raises:
        RequestError: if a number is impossible, or the seed would make cases that the common start is trained on.
    """

    train: int = 24
    tune: int = 4
    test: int = 16
    size: tuple[int, int, int] = (56, 64, 56)
    spacing: float = 2.5
    seed: int = DATA_SEED

    def __post_init__(self) -> None:
        if min(self.train, self.test) < 1 or self.tune < 0:
            msg = f"phantoms: train ({self.train}) and test ({self.test}) must be >= 1, tune ({self.tune}) >= 0"
            raise RequestError(msg)
        start, last = PRETRAINING_SEED, PRETRAINING_SEED + 1000 * len(PRETRAINED_ON)
        if self.seed < 0 or start - 1000 * len(SEVERITIES) < self.seed < last:
            msg = f"seed of the phantoms ({self.seed}) must be >= 0 and 1000 per regime away from {start} to {last}"
            raise RequestError(msg, "the common start is trained on the phantoms of those seeds")


def phantom_fold(regime: str, folder: Path, cases: PhantomSet) -> Fold:
    """Write the phantoms of a regime, those that are not there yet, and split them in their order.

    Args:
        regime: one of `rarevoxel.phantom.SEVERITIES`.
        folder: where the cases go, in a folder of the regime's name.
        cases: how many, how large.

    Raises:
        RequestError: for an unknown regime.
        ConflictError: if the folder holds cases of another size or spacing.
        ConfigError: if the size or the spacing is impossible.
        OSError: if the folder cannot be written.
    """
    if regime not in SEVERITIES:
        raise unknown_name("regime", regime, SEVERITIES)
    total = cases.train + cases.tune + cases.test
    seed = cases.seed + 1000 * list(SEVERITIES).index(regime)
    spec = PhantomSpec(cases.size, (cases.spacing,) * 3, severity=regime)
    prefix = regime if cases.seed == DATA_SEED else f"{regime}-{cases.seed}"
    entries = _phantoms(folder / prefix, prefix, total, seed, spec)
    first, second = cases.train, cases.train + cases.tune
    return Fold(
        regime, regime, tuple(entries[:first]), tuple(entries[first:second]), tuple(entries[second:]), phantoms=True
    )


def pretraining_entries(folder: Path, spacing: float, each: int = 16) -> tuple[Entry, ...]:
    """Write the phantoms that the common start is trained on, those that are not there yet.

    Args:
        folder: where the cases go.
        spacing: voxel size in mm.
        each: cases per regime of `PRETRAINED_ON`.

    Raises:
        ConflictError: if the folder holds cases of another size or spacing.
        OSError: if the folder cannot be written.
    """
    entries: list[Entry] = []
    for number, regime in enumerate(PRETRAINED_ON):
        spec = PhantomSpec(PhantomSet().size, (spacing,) * 3, severity=regime)
        prefix = f"start-{regime}"
        entries += _phantoms(folder / prefix, prefix, each, PRETRAINING_SEED + 1000 * number, spec)
    return tuple(entries)


def _phantoms(out: Path, prefix: str, count: int, seed: int, spec: PhantomSpec) -> list[Entry]:
    names = [f"{prefix}-{number:0{max(3, len(str(count)))}d}" for number in range(1, count + 1)]
    _write_missing(out, names, seed, spec)
    return [Entry(name, str(out / name / "t1c.nii.gz"), str(out / name / "seg.nii.gz")) for name in names]


def _write_missing(out: Path, names: Sequence[str], seed: int, spec: PhantomSpec) -> None:
    """Write the cases that are absent, each from its own seed, and leave the others as they are."""
    missing = []
    for index, name in enumerate(names):
        label = out / name / "seg.nii.gz"
        if not label.is_file():
            missing.append((index, name))
            continue
        grid = read_header(label)
        if grid.shape != spec.size or not np.allclose(grid.spacing, spec.spacing, atol=1e-3):
            msg = f"{label}: {grid.describe()} found, expected {spec.size} voxels of {spec.spacing} mm"
            raise ConflictError(msg, "name another folder, or ask for the size and spacing of the cases that are there")
    for index, name in tqdm(missing, desc=f"{out.name} phantoms", disable=None):
        (written,) = write_phantoms(out, 1, seed + index, spec, prefix=name, force=True)
        shutil.rmtree(out / name, ignore_errors=True)
        (out / written.id).replace(out / name)


def studies_folds(studies: Path, folds: int) -> tuple[Fold, ...]:
    """Split the labelled cases of a studies folder into folds of patients; each fold is tested once.

    Patients are ordered by a hash of their id, so that the folds do not depend on the order of the files.

    Args:
        studies: studies folder with submitted labels.
        folds: number of folds, 2 to the number of patients; with as many as patients, each patient alone is tested.

    Raises:
        InputError: if the folder is no studies folder.
        ConflictError: with fewer labelled patients than folds.
        RequestError: for fewer than two folds.
    """
    if folds < 2:
        raise RequestError(f"folds ({folds}) must be >= 2")
    patients = labelled_patients(studies)
    if len(patients) < folds:
        msg = f"{studies}: {len(patients)} labelled patients, expected at least {folds} for {folds} folds"
        raise ConflictError(msg, "label more cases, or ask for fewer folds")
    ordered = sorted(patients, key=lambda patient: hashlib.sha256(patient.encode()).hexdigest())
    regime = name_of(studies)
    return tuple(_studies_fold(regime, number, ordered, patients, folds) for number in range(folds))


def name_of(studies: Path) -> str:
    """Return the name of a studies folder; one given as `.` or `..` has none of its own."""
    return studies.name if studies.name not in ("", "..") else studies.resolve().name


def labelled_patients(studies: Path) -> dict[str, list[Entry]]:
    """Return patient -> labelled cases of a studies folder.

    Raises:
        InputError: if the folder is no studies folder.
    """
    cases = scan(studies, detect=False).cases
    if any(case.layout != "studies" for case in cases):
        msg = f"{studies}: a data set, expected a studies folder"
        raise InputError(msg, f"prepare it first: rarevoxel prepare {studies} STUDIES --labels")
    patients: dict[str, list[Entry]] = {}
    for case in cases:
        if case.label is not None:
            entry = Entry(case.id, str(case.sequences[case.display]), str(case.label))
            patients.setdefault(case.patient, []).append(entry)
    return patients


def _studies_fold(
    regime: str, number: int, ordered: Sequence[str], patients: Mapping[str, list[Entry]], folds: int
) -> Fold:
    test = ordered[number::folds]
    rest = [patient for patient in ordered if patient not in test]
    tune = rest[:: len(rest) // 4] if len(rest) >= _TUNED_FROM else []
    train = [patient for patient in rest if patient not in tune]

    def entries(names: Sequence[str]) -> tuple[Entry, ...]:
        return tuple(entry for name in names for entry in patients[name])

    return Fold(regime, f"{regime}-{number + 1}", entries(train), entries(tune), entries(test), phantoms=False)


def fold_record(fold: Fold) -> dict[str, Any]:
    """Return which cases are on which side, as plain data."""
    return {
        "regime": fold.regime,
        "name": fold.name,
        "phantoms": fold.phantoms,
        **{side: [entry.id for entry in getattr(fold, side)] for side in ("train", "tune", "test")},
    }
