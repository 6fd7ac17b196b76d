"""Which patients train, select and judge: decided by a hash of the patient alone, so nobody ever changes sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rarevoxel.errors import ConflictError

MINIMUM_PATIENTS = 3
"""Fewest labelled patients a training starts with."""


def in_holdout(patient: str, share: float) -> bool:
    """Say whether a patient belongs to the hold-out.

    The first 8 bytes of the SHA-256 of the patient id, read as a fraction of 2^64, are below `share`: no list is
    kept, adding a patient moves no other, and all time points of a patient stay together.

    Args:
        patient: patient id.
        share: share of patients held out, 0 to 1.
    """
    return _fraction(patient) < share


def _fraction(patient: str) -> float:
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Split:
    """Case ids on each side.

    Attributes:
        train: cases that are learned from.
        holdout: cases that judge, and do nothing else.
        select: cases that pick the best epoch and a two-stage threshold; none, and the last epoch is taken.
        note: empty, or what was borrowed because a side had no case.
    """

    train: tuple[str, ...]
    holdout: tuple[str, ...]
    select: tuple[str, ...] = ()
    note: str = ""

    def side(self, case: str) -> str:
        """Return `train`, `select` or `holdout`.

        Raises:
            KeyError: for a case of no side.
        """
        for name, cases in (("train", self.train), ("select", self.select), ("holdout", self.holdout)):
            if case in cases:
                return name
        raise KeyError(case)


def split_cases(patients: Mapping[str, str], holdout: float, selection: float = 0.0) -> Split:
    """Split labelled cases by patient.

    With u the hash of a patient as a fraction (see `in_holdout`): u < holdout judges, holdout <= u < holdout +
    selection selects, the rest trains. With few labels the judges or the trainers may come out empty; then the patient
    with the nearest u is borrowed until the hash fills the side, and `note` says so. An empty selection stays empty.

    Args:
        patients: case id -> patient id of every labelled case.
        holdout: share of patients that judge.
        selection: share of patients that select.

    Raises:
        ConflictError: with fewer than `MINIMUM_PATIENTS` labelled patients.
    """
    names = sorted(set(patients.values()), key=_fraction)
    if len(names) < MINIMUM_PATIENTS:
        msg = (
            f"{len(patients)} labelled cases of {len(names)} patients, "
            f"expected at least {MINIMUM_PATIENTS} patients to train, select and judge"
        )
        raise ConflictError(msg, "label more cases and submit them, then train again")
    last_judge = sum(_fraction(name) < holdout for name in names)
    first_trainer = sum(_fraction(name) < holdout + selection for name in names)
    notes = []
    if last_judge == 0:
        last_judge, first_trainer = 1, max(first_trainer, 1)
        notes.append(
            f"no labelled patient falls into the hold-out yet, so {_told(patients, names[0])} is borrowed to judge"
        )
    if first_trainer == len(names):
        first_trainer = len(names) - 1
        last_judge = min(last_judge, first_trainer)
        notes.append(f"no labelled patient is left to train on, so {_told(patients, names[-1])} is borrowed to train")
    return Split(
        train=_cases(patients, names[first_trainer:]),
        holdout=_cases(patients, names[:last_judge]),
        select=_cases(patients, names[last_judge:first_trainer]),
        note="; ".join(notes),
    )


def _told(patients: Mapping[str, str], borrowed: str) -> str:
    return " and ".join(_cases(patients, [borrowed]))


def _cases(patients: Mapping[str, str], chosen: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(case for case, patient in patients.items() if patient in chosen))
