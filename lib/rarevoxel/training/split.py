"""Which patients train and which judge: decided by a hash of the patient alone, so nobody ever changes sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rarevoxel.errors import ConflictError


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
    """Case ids on either side.

    Attributes:
        train: cases that are learned from.
        holdout: cases that judge.
        note: empty, or a sentence when the hold-out had to borrow a case.
    """

    train: tuple[str, ...]
    holdout: tuple[str, ...]
    note: str = ""


def split_cases(patients: Mapping[str, str], share: float) -> Split:
    """Split labelled cases by patient.

    With few labels one side may come out empty. Then the patient nearest to the threshold is borrowed from the other
    side until the hash fills it, and `note` says so: without a hold-out case no model could ever be judged.

    Args:
        patients: case id -> patient id of every labelled case.
        share: share of patients held out.

    Raises:
        ConflictError: with fewer than two labelled patients.
    """
    names = sorted(set(patients.values()), key=_fraction)
    if len(names) < 2:
        msg = (
            f"{len(patients)} labelled cases of {len(names)} patients, expected at least 2 patients to train and judge"
        )
        raise ConflictError(msg, "label more cases and submit them, then train again")
    held = {name for name in names if in_holdout(name, share)}
    note = ""
    if not held:
        held = {names[0]}
        note = f"no labelled patient falls into the hold-out yet, so {names[0]!r} is borrowed to judge"
    elif len(held) == len(names):
        held.discard(names[-1])
        note = f"all labelled patients fall into the hold-out, so {names[-1]!r} is borrowed to train"
    return Split(
        train=_cases(patients, [name for name in names if name not in held]),
        holdout=_cases(patients, [name for name in names if name in held]),
        note=note,
    )


def _cases(patients: Mapping[str, str], chosen: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(case for case, patient in patients.items() if patient in chosen))
