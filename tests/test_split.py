"""The split by patient hash: nobody ever changes sides."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarevoxel.errors import ConflictError
from rarevoxel.training.split import in_holdout, split_cases

PATIENTS = st.lists(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=3, max_size=30, unique=True)
SHARES = st.sampled_from([0.1, 0.25, 0.5, 0.8])


def as_cases(patients: list[str]) -> dict[str, str]:
    return {f"case-{patient}": patient for patient in patients}


def test_the_hash_by_hand() -> None:
    fraction = int(hashlib.sha256(b"patient-1").hexdigest()[:16], 16) / 2**64
    assert in_holdout("patient-1", fraction + 1e-9)
    assert not in_holdout("patient-1", fraction - 1e-9)
    assert not in_holdout("patient-1", 0.0)
    assert in_holdout("patient-1", 1.0)


def test_the_share_is_the_share() -> None:
    held = sum(in_holdout(f"patient-{i}", 0.25) for i in range(4000))
    assert held == pytest.approx(1000, abs=90)  # a little over three standard deviations


@given(patients=PATIENTS, share=SHARES)
def test_adding_a_patient_moves_no_other(patients: list[str], share: float) -> None:
    before, after = split_cases(as_cases(patients[:-1]), share), split_cases(as_cases(patients), share)
    if not before.note and not after.note:
        assert set(before.train) <= set(after.train)
        assert set(before.holdout) <= set(after.holdout)


@given(patients=PATIENTS, share=SHARES)
def test_every_case_is_on_one_side_and_neither_is_empty(patients: list[str], share: float) -> None:
    split = split_cases(as_cases(patients), share)
    assert split.train
    assert split.holdout
    assert sorted((*split.train, *split.holdout)) == sorted(as_cases(patients))
    assert bool(split.note) == (len({in_holdout(p, share) for p in patients}) == 1)


def test_time_points_stay_together() -> None:
    cases = {f"{patient}-{visit}": patient for patient in "abcdefgh" for visit in (1, 2, 3)}
    split = split_cases(cases, 0.5)
    assert {cases[c] for c in split.train} & {cases[c] for c in split.holdout} == set()


def test_one_is_borrowed_when_a_side_is_empty() -> None:
    training = [f"p{i}" for i in range(60) if not in_holdout(f"p{i}", 0.25)][:4]
    held = [f"p{i}" for i in range(60) if in_holdout(f"p{i}", 0.25)][:3]
    split = split_cases(as_cases(training), 0.25)
    assert len(split.holdout) == 1
    assert "borrowed to judge" in split.note
    assert split.holdout[0].removeprefix("case-") in split.note
    split = split_cases(as_cases(held), 0.25)
    assert len(split.train) == 1
    assert "borrowed to train" in split.note
    assert split_cases(as_cases([*training, *held]), 0.25).note == ""


def test_one_patient_cannot_both_train_and_judge() -> None:
    with pytest.raises(ConflictError, match="2 labelled cases of 1 patients, expected at least 2 patients"):
        split_cases({"a-1": "a", "a-2": "a"}, 0.25)
    with pytest.raises(ConflictError, match="0 labelled cases of 0 patients"):
        split_cases({}, 0.25)
