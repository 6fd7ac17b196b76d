"""The cases of a campaign on a studies folder: some patients are kept to test with."""

from __future__ import annotations

from pathlib import Path

from rarevoxel.comparison.data import Fold, labelled_patients, name_of
from rarevoxel.errors import ConflictError
from rarevoxel.training.split import split_cases


def studies_pool(studies: Path, share: float) -> Fold:
    """Return the labelled cases of a studies folder, a share of its patients, by hash, to test with.

    Args:
        studies: studies folder with submitted labels.
        share: of patients to test with, in (0, 1).

    Raises:
        InputError: if the folder is no studies folder.
        ConflictError: with fewer than three labelled patients.
    """
    patients = labelled_patients(studies)
    entries = {entry.id: entry for cases in patients.values() for entry in cases}
    split = split_cases({entry.id: name for name, cases in patients.items() for entry in cases}, share)
    if not split.train or not split.holdout:
        raise ConflictError(f"{studies}: {len(patients)} labelled patients leave a side without a case", "label more")
    name = name_of(studies)
    train, test = (tuple(entries[case] for case in side) for side in (split.train, split.holdout))
    return Fold(name, name, train, (), test, phantoms=False)
