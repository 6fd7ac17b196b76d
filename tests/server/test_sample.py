from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.bundled import bundled_app
from rarevoxel.cases.table import load_table
from rarevoxel.errors import InputError, NotFoundError
from rarevoxel.server import sample
from rarevoxel.server.sample import prepare_samples, true_labels
from rarevoxel.volumes import read_labels, read_volume, write_volume

ROOT = bundled_app().parents[1]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "sample-data").is_dir():
        pytest.skip("no checkout: the sample data are not installed")
    work = tmp_path_factory.mktemp("work")
    report = prepare_samples(work)
    assert len(report.prepared) == sample.CASES
    assert len(report.labelled) == sample.LABELLED
    return work / "studies"


def test_the_truth_equals_the_labels_that_are_handed_out(studies: Path) -> None:
    for case in ("sample-001", "sample-009"):
        assert np.array_equal(true_labels(studies, case), read_labels(studies / "labels/final" / f"{case}.nii.gz"))


def test_a_case_without_label_has_a_truth_on_its_grid(studies: Path) -> None:
    assert not (studies / "labels/final/sample-002.nii.gz").exists()
    truth = true_labels(studies, "sample-002")
    assert truth.shape == read_volume(studies / "sample-002.nii.gz").array.shape
    assert set(np.unique(truth)) <= {0, 1, 2, 3}
    assert truth.any()


def test_nothing_in_the_copy_leads_back_to_the_sources(studies: Path) -> None:
    volumes = [path for path in studies.rglob("*.nii.gz") if path.is_symlink()]
    assert all(studies.resolve() in path.resolve().parents for path in volumes)


def test_an_unknown_or_changed_case_has_no_truth(studies: Path) -> None:
    for case in ("patient-1", "sample-013"):
        with pytest.raises(NotFoundError, match=f"'{case}' is no sample case"):
            true_labels(studies, case)
    file = studies / load_table(studies)["sample-012"].sequences["t1c"]
    volume = read_volume(file)
    write_volume(file, (volume.array[::-1]).astype(np.int16), volume.grid.affine)
    with pytest.raises(InputError, match=r"sample-012: \d+% of its t1c voxels differ from its recipe"):
        true_labels(studies, "sample-012")


def test_the_recipe_is_the_one_that_makes_the_sample_data() -> None:
    makefile = ROOT / "Makefile"
    if not makefile.is_file():
        pytest.skip("no checkout")
    found = re.search(r"^PHANTOMS = (.*)$", makefile.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    size, spacing = " ".join(map(str, sample.SPEC.size)), f"{sample.SPEC.spacing[0]:g}"
    assert found.group(1) == (
        f"--cases {sample.CASES} --seed {sample.SEED} --size {size} --spacing {spacing} "
        f"--severity {sample.SPEC.severity} --labelled {sample.LABELLED} --prefix {sample.PREFIX}"
    )


def test_an_installation_without_sample_data_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "bundled_app", lambda: tmp_path / "package" / "apps" / "brain_tumor")
    monkeypatch.setattr(sample, "CASES", 2)
    monkeypatch.setattr(sample, "LABELLED", 1)
    report = prepare_samples(tmp_path / "work")
    assert (report.prepared, report.labelled) == (("sample-001", "sample-002"), ("sample-001",))
    stored = read_labels(tmp_path / "work/studies/labels/final/sample-001.nii.gz")
    assert np.array_equal(true_labels(tmp_path / "work/studies", "sample-001"), stored)
