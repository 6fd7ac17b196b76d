"""The split by patient hash: nobody ever changes sides."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarevoxel.errors import ConflictError
from rarevoxel.training.split import MINIMUM_PATIENTS, Split, in_holdout, split_cases

PATIENTS = st.lists(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=4, max_size=30, unique=True)
SHARES = st.sampled_from([(0.25, 0.15), (0.1, 0.0), (0.25, 0.5), (0.5, 0.3), (0.8, 0.19)])


def as_cases(patients: list[str]) -> dict[str, str]:
    return {f"case-{patient}": patient for patient in patients}


def hash_of(patient: str) -> float:
    return int(hashlib.sha256(patient.encode()).hexdigest()[:16], 16) / 2**64


def between(low: float, high: float, count: int) -> list[str]:
    """Patients whose hash lies in [low, high)."""
    return [f"p{i}" for i in range(2000) if low <= hash_of(f"p{i}") < high][:count]


def test_the_hash_by_hand() -> None:
    fraction = hash_of("patient-1")
    assert in_holdout("patient-1", fraction + 1e-9)
    assert not in_holdout("patient-1", fraction - 1e-9)
    assert not in_holdout("patient-1", 0.0)
    assert in_holdout("patient-1", 1.0)


def test_the_shares_are_the_shares() -> None:
    split = split_cases(as_cases([f"patient-{i}" for i in range(4000)]), 0.25, 0.15)
    assert len(split.holdout) == pytest.approx(1000, abs=90)  # A little over three standard deviations.
    assert len(split.select) == pytest.approx(600, abs=75)
    assert len(split.train) == 4000 - len(split.holdout) - len(split.select)
    assert split.note == ""


@given(patients=PATIENTS, shares=SHARES)
def test_adding_a_patient_moves_no_other(patients: list[str], shares: tuple[float, float]) -> None:
    before, after = split_cases(as_cases(patients[:-1]), *shares), split_cases(as_cases(patients), *shares)
    if not before.note and not after.note:
        for side in ("train", "select", "holdout"):
            assert set(getattr(before, side)) <= set(getattr(after, side))


@given(patients=PATIENTS, shares=SHARES)
def test_every_case_is_on_one_side_and_someone_trains_and_judges(
    patients: list[str], shares: tuple[float, float]
) -> None:
    split = split_cases(as_cases(patients), *shares)
    assert split.train
    assert split.holdout
    assert sorted((*split.train, *split.select, *split.holdout)) == sorted(as_cases(patients))
    judging = [in_holdout(p, shares[0]) for p in patients]
    learning = [not in_holdout(p, sum(shares)) for p in patients]
    assert bool(split.note) == (not any(judging) or not any(learning))


@given(patients=PATIENTS, shares=SHARES)
def test_sides_are_intervals_of_the_hash(patients: list[str], shares: tuple[float, float]) -> None:
    """So that whoever is borrowed is the nearest."""
    split = split_cases(as_cases(patients), *shares)
    order = [split.side(f"case-{patient}") for patient in sorted(patients, key=hash_of)]
    assert all("holdout select train".index(a) <= "holdout select train".index(b) for a, b in pairwise(order))


def test_time_points_stay_together() -> None:
    cases = {f"{patient}-{visit}": patient for patient in "abcdefgh" for visit in (1, 2, 3)}
    split = split_cases(cases, 0.4, 0.3)
    sides = [{cases[c] for c in side} for side in (split.train, split.select, split.holdout)]
    assert sum(map(len, sides)) == 8


def test_an_empty_hold_out_borrows_the_nearest() -> None:
    learning = sorted(between(0.5, 1.0, 4), key=hash_of)
    split = split_cases(as_cases(learning), 0.25, 0.15)
    assert split.holdout == (f"case-{learning[0]}",)
    assert split.note == f"no labelled patient falls into the hold-out yet, so case-{learning[0]} is borrowed to judge"
    selecting = between(0.25, 0.40, 1)
    split = split_cases(as_cases([*learning, *selecting]), 0.25, 0.15)
    assert split.holdout == (f"case-{selecting[0]}",), "the selection goes first: judging counts more"
    assert split.select == ()


def test_an_empty_training_side_borrows_the_nearest() -> None:
    judging, selecting = sorted(between(0.0, 0.25, 3), key=hash_of), between(0.25, 0.40, 1)
    split = split_cases(as_cases(judging), 0.25, 0.15)
    assert (split.train, len(split.holdout)) == ((f"case-{judging[-1]}",), 2)
    assert split.note == f"no labelled patient is left to train on, so case-{judging[-1]} is borrowed to train"
    split = split_cases(as_cases([*judging, *selecting]), 0.25, 0.15)
    assert (split.train, len(split.holdout)) == ((f"case-{selecting[0]}",), 3)


def test_only_selecting_patients_lend_to_both_sides() -> None:
    names = sorted(between(0.25, 0.40, 4), key=hash_of)
    split = split_cases(as_cases(names), 0.25, 0.15)
    assert split.holdout == (f"case-{names[0]}",)
    assert split.train == (f"case-{names[3]}",)
    assert sorted(split.select) == sorted(f"case-{name}" for name in names[1:3])
    assert "to judge; no labelled" in split.note


def test_without_a_share_nobody_selects() -> None:
    assert split_cases(as_cases(between(0.2, 0.5, 6)), 0.25).select == ()


def test_the_side_of_a_case() -> None:
    split = Split(("a",), ("b",), ("c",))
    assert [split.side(case) for case in "abc"] == ["train", "holdout", "select"]
    with pytest.raises(KeyError, match="d"):
        split.side("d")


@pytest.mark.fault(39)
@pytest.mark.parametrize("count", range(MINIMUM_PATIENTS))
def test_fewer_than_three_patients_are_too_few(count: int) -> None:
    cases = {f"{patient}-{visit}": patient for patient in "abc"[:count] for visit in (1, 2)}
    expected = f"{2 * count} labelled cases of {count} patients, expected at least 3 patients to train, select and"
    with pytest.raises(ConflictError, match=expected):
        split_cases(cases, 0.25, 0.15)
