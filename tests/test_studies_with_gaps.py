"""Cases without all four sequences in a studies folder: what goes in, what is found again, what counts as lost."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import SEQUENCES, discover, find_sequences
from rarevoxel.errors import ConflictError, InputError
from rarevoxel.studies import load_table, write_studies


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A case without t1c."""
    folder = tmp_path / "data" / "p1"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("t1n", "t2w", "t2f")):
        add(folder, name, seed)
    return folder


def add(folder: Path, name: str, seed: int = 9) -> None:
    array = np.random.default_rng(seed).integers(0, 100, (6, 7, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")


@pytest.mark.parametrize("copy", [False, True])
def test_a_case_with_a_gap_is_prepared_and_found_again(tmp_path: Path, source: Path, copy: bool) -> None:
    studies = tmp_path / "studies"
    report = write_studies(discover(source.parent), studies, copy=copy)
    assert report.prepared == ("p1",)
    assert dict(report.incomplete) == {"p1": ("t1c",)}
    assert report.to_dict()["incomplete"] == {"p1": ["t1c"]}
    assert set(load_table(studies)["p1"].sequences) == {"t1n", "t2w", "t2f"}
    display = studies / "p1.nii.gz"
    assert display.samefile(studies / "sequences" / "p1" / "t2f.nii.gz")
    for path in (display, display.resolve()):
        assert list(find_sequences(path)) == ["t1n", "t2w", "t2f"]
    (case,) = discover(studies)
    assert (case.missing, case.display) == (("t1c",), "t2f")


def test_a_listed_sequence_that_is_lost_is_a_fault(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source.parent), studies, copy=True)
    (studies / "sequences" / "p1" / "t1n.nii.gz").unlink()
    match = r"p1\.nii\.gz: sequence t1n is missing; studies\.json lists p1/t1n\.nii\.gz, which cannot be found"
    with pytest.raises(InputError, match=match):
        find_sequences(studies / "p1.nii.gz")


def test_preparing_again_does_not_lose_a_sequence_in_silence(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source.parent), studies)
    (source / "t1n.nii.gz").unlink()
    (refusal,) = write_studies(discover(source.parent), studies).refused
    assert isinstance(refusal.error, ConflictError)
    assert "p1: was prepared with t1n, not found any more" in refusal.error.message
    assert "t1n" in load_table(studies)["p1"].sequences
    assert dict(write_studies(discover(source.parent), studies, force=True).incomplete) == {"p1": ("t1n", "t1c")}
    assert list(find_sequences(studies / "p1.nii.gz")) == ["t2w", "t2f"]


def test_a_sequence_that_comes_later_needs_no_force(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source.parent), studies)
    add(source, "t1c")
    report = write_studies(discover(source.parent), studies)
    assert (report.refused, report.prepared, dict(report.incomplete)) == ((), ("p1",), {})
    assert (studies / "p1.nii.gz").samefile(source / "t1c.nii.gz")
    assert tuple(find_sequences(studies / "p1.nii.gz")) == SEQUENCES
