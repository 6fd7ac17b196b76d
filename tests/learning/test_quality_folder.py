"""Checking a whole studies folder: what is wrong is reported, never raised."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cases.table import load_table, save_table
from rarevoxel.errors import InputError, NotFoundError
from rarevoxel.learning.quality import ERROR, CaseReport, Finding, QualityConfig, check_studies
from rarevoxel.volumes import read_label_volume, read_volume, write_labels, write_volume

CASES = [f"phantom-00{number}" for number in range(1, 7)]
LABELLED = ["phantom-001", "phantom-002", "phantom-004", "phantom-005"]


def by_case(reports: list[CaseReport]) -> dict[str, list[tuple[str, str, float]]]:
    return {r.case: [(f.code, f.label, f.number) for f in r.findings] for r in reports if r.findings}


def errors(reports: list[CaseReport]) -> dict[str, list[tuple[str, str, float]]]:
    found = {r.case: [(f.code, f.label, f.number) for f in r.findings if f.severity == ERROR] for r in reports}
    return {case: listed for case, listed in found.items() if listed}


def label_of(studies: Path, case: str) -> Path:
    return studies / "labels" / "final" / f"{case}.nii.gz"


def sequence_of(studies: Path, case: str, name: str) -> Path:
    return studies / load_table(studies)[case].sequences[name]


def test_good_phantoms_have_no_errors(studies: Path) -> None:
    reports = check_studies(studies)
    assert [report.case for report in reports] == CASES
    assert [report.case for report in reports if report.labelled] == LABELLED
    assert errors(reports) == {}
    volume = reports[0].volumes_ml["WT"]
    labels = read_label_volume(label_of(studies, CASES[0]))
    wanted = np.count_nonzero((labels.array > 0) & (labels.array < 4)) * labels.grid.voxel_volume / 1000
    assert volume == pytest.approx(wanted, abs=1e-6)
    assert str(studies) not in json.dumps([report.to_dict() for report in reports])


def test_every_broken_image_is_reported(studies: Path) -> None:
    one = sequence_of(studies, CASES[0], "t2w")
    volume = read_volume(one)
    write_volume(one, np.full(volume.array.shape, 7, np.int16), volume.grid.affine)
    broken = volume.array.copy()
    broken[3, 4, 5:8] = np.nan
    two = sequence_of(studies, CASES[1], "t1n")
    write_volume(two, broken, volume.grid.affine)
    three = sequence_of(studies, CASES[2], "t2f")
    three.write_bytes(three.read_bytes()[:500])
    sequence_of(studies, CASES[3], "t2f").unlink()
    five = sequence_of(studies, CASES[4], "t1n")
    write_volume(five, volume.array, volume.grid.affine + 3.0 * np.eye(4, k=3))
    reports = check_studies(studies)
    assert errors(reports) == {
        CASES[0]: [("image_constant", "t2w", 7.0)],
        CASES[1]: [("image_nan", "t1n", 3.0)],
        CASES[2]: [("image_unreadable", "t2f", 500.0)],
        CASES[3]: [("image_missing", "t2f", 1.0)],
        CASES[4]: [("image_grid", "t1n", 3.0)],
    }
    place = reports[1].findings[0]
    assert place.voxel == (3, 4, 5)
    assert place.mm == pytest.approx(volume.grid.affine[:3] @ [3, 4, 5, 1], abs=1e-3)
    assert all(str(studies) not in finding.message for report in reports for finding in report.findings)
    assert reports[2].sentence(reports[2].findings[0]).startswith("sequence t2f: is truncated or corrupt")


def test_a_sequence_a_case_was_prepared_without_is_a_warning(studies: Path) -> None:
    table = load_table(studies)
    study = table[CASES[0]]
    rest = {name: file for name, file in study.sequences.items() if name != "t2w"}
    save_table(studies, {**table, CASES[0]: replace(study, sequences=rest)})
    sequence_of(studies, CASES[1], "t2w").unlink()
    reports = check_studies(studies, only=CASES[:2])
    assert errors(reports) == {CASES[1]: [("image_missing", "t2w", 1.0)]}
    found = [finding for finding in reports[0].findings if finding.code == "image_missing"]
    assert [(finding.severity, finding.label) for finding in found] == [("warning", "t2w")]


def test_a_display_volume_that_cannot_be_read_is_reported_once(studies: Path) -> None:
    display = sequence_of(studies, CASES[0], "t1c")
    display.write_bytes(b"x")
    assert by_case(check_studies(studies, only=[CASES[0]])) == {CASES[0]: [("image_unreadable", "t1c", 1.0)]}


def test_every_broken_label_is_reported(studies: Path) -> None:
    labels = read_label_volume(label_of(studies, LABELLED[0]))
    empty = np.zeros_like(labels.array)
    write_labels(label_of(studies, LABELLED[0]), empty, labels.grid.affine)
    write_labels(label_of(studies, LABELLED[1]), empty, labels.grid.affine)
    wrong = labels.array.copy()
    wrong[0, 0, 0] = 9
    write_labels(label_of(studies, LABELLED[2]), wrong, labels.grid.affine)
    label_of(studies, LABELLED[3]).write_bytes(b"not a label")
    reports = check_studies(studies, declared_empty=lambda case: case == LABELLED[0])
    assert errors(reports) == {
        LABELLED[1]: [("empty", "", 0.0)],
        LABELLED[2]: [("value", "", 1.0)],
        LABELLED[3]: [("unreadable", "", 11.0)],
    }
    assert [report.worst for report in reports if report.case in LABELLED] == ["", ERROR, ERROR, ERROR]
    assert reports[0].volumes_ml == {"WT": 0.0, "TC": 0.0, "ET": 0.0}


def test_labels_are_compared_with_masks_of_their_case(studies: Path, tmp_path: Path) -> None:
    labels = read_label_volume(label_of(studies, LABELLED[0]))
    write_labels(tmp_path / "other.nii.gz", np.roll(labels.array, 20, axis=1), labels.grid.affine)
    (report,) = check_studies(studies, only=[LABELLED[0]], proposal=lambda case: tmp_path / "other.nii.gz")
    assert "disagreement" in [finding.code for finding in report.findings]
    small = np.zeros_like(labels.array)
    small[10, 10, 10] = 2
    write_labels(tmp_path / "other.nii.gz", small, labels.grid.affine)
    (report,) = check_studies(studies, only=[LABELLED[0]], previous=lambda case: tmp_path / "other.nii.gz")
    assert "volume_change" in [finding.code for finding in report.findings]


def test_labels_are_compared_with_each_other(studies: Path) -> None:
    """With four labels of one size and one that is far smaller; three others are enough for this test."""
    labels = read_label_volume(label_of(studies, LABELLED[0]))
    for case in LABELLED[1:]:
        shutil.copyfile(label_of(studies, LABELLED[0]), label_of(studies, case))
    speck = np.zeros_like(labels.array)
    speck[20, 20, 20:22] = 2
    write_labels(label_of(studies, LABELLED[3]), speck, labels.grid.affine)
    reports = check_studies(studies, config=QualityConfig(population_n=3))
    found = {report.case: [f for f in report.findings if f.code == "volume_population"] for report in reports}
    assert [case for case, findings in found.items() if findings] == [LABELLED[3]]
    assert found[LABELLED[3]][0].voxel == (20, 20, 20)
    assert found[LABELLED[3]][0].number < -3.5
    assert by_case(check_studies(studies, only=[LABELLED[3]], config=QualityConfig(population_n=3))).get(
        LABELLED[3], []
    ) == [(f.code, f.label, f.number) for f in reports[4].findings if f.code != "volume_population"]


def test_a_label_is_not_one_of_its_own_population(studies: Path) -> None:
    config = QualityConfig(population_n=4, population_z=1e-9)  # four labels: three others
    codes = [finding.code for report in check_studies(studies, config=config) for finding in report.findings]
    assert "volume_population" not in codes


def test_a_flair_on_another_grid_is_left_out(studies: Path) -> None:
    write_volume(sequence_of(studies, CASES[0], "t2f"), np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4))
    labels = read_label_volume(label_of(studies, CASES[0]))
    write_labels(label_of(studies, CASES[0]), labels.array[::-1].copy(), labels.grid.affine)
    (report,) = check_studies(studies, only=[CASES[0]])
    codes = [finding.code for finding in report.findings]
    assert "image_grid" in codes
    assert "left_right_swap" not in codes


def test_folders_that_are_none(studies: Path, phantom_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no case nobody in this folder, which has 6: phantom-001"):
        check_studies(studies, only=["nobody", CASES[0]])
    with pytest.raises(InputError, match=r"a data set, expected a studies folder"):
        check_studies(phantom_folders)
    with pytest.raises(InputError, match=r"does not exist"):
        check_studies(tmp_path / "none")


def test_the_worst_of_a_case() -> None:
    warning, error = Finding("islands", "warning", "m", 1.0), Finding("grid", "error", "m", 1.0)
    assert [CaseReport("c", found).worst for found in ((), (warning,), (warning, error))] == ["", "warning", "error"]


def test_needs_neither_torch_nor_the_host() -> None:
    absent = ("torch", "monai", "monailabel")
    code = f"import rarevoxel.learning.quality, sys\nprint([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
