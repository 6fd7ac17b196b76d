"""Training cases that lack a sequence: taken with zeros, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.learning.quality.subject import Subject
from rarevoxel.training.measure import measure_cases
from rarevoxel.training.places import LabelledCase
from rarevoxel.transforms import build_case, fit_power_from_cases, load_sequences
from rarevoxel.volumes import read_label_volume


def labelled(folder: Path) -> LabelledCase:
    return LabelledCase("one", "one", folder / "t1c.nii.gz", folder / "seg.nii.gz")


def test_a_case_with_a_gap_is_used_and_named(case_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (case_folder / "t2w.nii.gz").unlink()
    measured = measure_cases([labelled(case_folder)])
    assert [case.id for case in measured.usable] == ["one"]
    assert measured.skipped == {}
    assert measured.missing == {"one": ["t2w"]}
    assert set(measured.sequences["one"]) == {"t1n", "t1c", "t2f"}
    assert "one is without t2w" in caplog.text


def test_a_complete_case_is_not_named(case_folder: Path) -> None:
    measured = measure_cases([labelled(case_folder)])
    assert (measured.missing, list(measured.sequences["one"])) == ({}, list(SEQUENCES))


def test_the_road_of_training_keeps_the_gap_zero(config: AppConfig, case_folder: Path) -> None:
    (case_folder / "t2w.nii.gz").unlink()
    data = build_case(config)(labelled(case_folder).entry())
    assert [bool(channel.any()) for channel in data["image"]] == [True, True, False, True]


def test_intensities_are_fitted_from_the_cases_that_have_a_sequence(case_folder: Path) -> None:
    (case_folder / "t2w.nii.gz").unlink()
    report = fit_power_from_cases([load_sequences(case_folder)]).report
    assert [fit.n > 0 for fit in report] == [True, True, False, True]
    assert report[2].power.kind == "none"


def test_a_label_without_a_flair_is_checked_without_it(case_folder: Path) -> None:
    (case_folder / "t2f.nii.gz").unlink()
    volume = read_label_volume(case_folder / "seg.nii.gz")
    assert Subject("one", volume.array, volume.grid, case_folder / "t1c.nii.gz").flair is None
