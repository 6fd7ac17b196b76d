from __future__ import annotations

import json
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import Case, discover
from rarevoxel.errors import ConflictError, InputError
from rarevoxel.labels import SCHEMES
from rarevoxel.statistics import case_statistics, folder
from rarevoxel.statistics.cache import ResultCache
from rarevoxel.statistics.folder import FolderStatistics, measure_folder
from rarevoxel.statistics.measure_case import CaseMeasurement, files_of, measure_case

AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])
SHAPE = (9, 10, 11)


def write_one(root: Path, name: str, seed: int, *, value: int = 3, shape: tuple[int, ...] = SHAPE) -> None:
    rng = np.random.default_rng(seed)
    case = root / name
    case.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 3:7, 2:9] = rng.integers(0, 3, (4, 4, 7))
    labels[3, 3, 3] = value
    for index, sequence in enumerate(("t1n", "t1c", "t2w", "t2f")):
        image = (rng.integers(0, 300, shape) * (index + 1)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE), case / f"{name}-{sequence}.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), case / f"{name}-seg.nii.gz")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for seed in range(4):
        write_one(root, f"BraTS-GLI-0000{seed}-000", seed)
    age(root)
    return root


def age(root: Path) -> None:
    then = time.time() - 3600
    for path in root.rglob("*.nii.gz"):
        os.utime(path, (then, then))


def as_json(found: FolderStatistics) -> str:
    intensities = {c: {s: i.to_dict() for s, i in sequences.items()} for c, sequences in found.intensities.items()}
    return json.dumps([[case.to_dict() for case in found.cases], intensities, [r.to_dict() for r in found.refused]])


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the cases that were really read."""
    read: list[str] = []
    real = folder.measure_case
    monkeypatch.setattr(folder, "measure_case", lambda case, **kwargs: (read.append(case.id), real(case, **kwargs))[1])
    return read


def test_sizes_are_those_of_the_whole_label_map(data: Path) -> None:
    found = measure_folder(data)
    assert found.intensities == {}
    for case in found.cases:
        labels = np.asarray(nib.load(data / case.case_id / f"{case.case_id}-seg.nii.gz").dataobj)
        assert case == case_statistics(labels, (1.0, 1.0, 3.0), case.case_id)


def test_intensities_by_hand(data: Path) -> None:
    found = measure_folder(data, intensities=True).intensities["BraTS-GLI-00002-000"]
    assert list(found) == ["t1n", "t1c", "t2w", "t2f"]
    path = data / "BraTS-GLI-00002-000" / "BraTS-GLI-00002-000-{}.nii.gz"
    image, labels = (np.asarray(nib.load(str(path).format(name)).dataobj) for name in ("t2w", "seg"))
    assert found["t2w"].brain.mean == pytest.approx(image[image != 0].mean())
    assert found["t2w"].labels["edema"].percentiles[90.0] == pytest.approx(np.percentile(image[labels == 2], 90))
    assert found["t2w"].regions["TC"].maximum == image[np.isin(labels, (1, 3))].max()


def test_threads_and_cache_change_nothing(data: Path, tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    expected = as_json(measure_folder(data, intensities=True, threads=1))
    assert as_json(measure_folder(data, intensities=True, threads=3)) == expected
    assert as_json(measure_folder(data, intensities=True, cache=cache)) == expected
    assert as_json(measure_folder(data, intensities=True, cache=cache)) == expected
    with pytest.raises(InputError, match=r"threads \(0\) must be >= 1"):
        measure_folder(data, threads=0)


def test_only_what_changed_is_read_again(data: Path, tmp_path: Path, looked: list[str]) -> None:
    cache = ResultCache(tmp_path / "cache")
    before = measure_folder(data, intensities=True, cache=cache)
    assert len(looked) == 4
    looked.clear()
    measure_folder(data, intensities=True, cache=cache)
    assert looked == []
    write_one(data, "BraTS-GLI-00001-000", 77)
    after = measure_folder(data, intensities=True, cache=cache)
    assert looked == ["BraTS-GLI-00001-000"]
    assert after.cases[1] != before.cases[1]
    assert as_json(after) == as_json(measure_folder(data, intensities=True))


def test_sizes_and_intensities_are_kept_apart(data: Path, tmp_path: Path, looked: list[str]) -> None:
    cache = ResultCache(tmp_path / "cache")
    measure_folder(data, cache=cache)
    assert measure_folder(data, cache=cache, intensities=True).intensities
    assert measure_folder(data, cache=cache).intensities == {}
    assert len(looked) == 8


def test_a_scheme_that_changes_changes_the_result(data: Path, tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    first = measure_folder(data, cache=cache)
    other = measure_folder(data, cache=cache, scheme=SCHEMES["msd"])
    assert first.cases[0].labels["edema"].voxels == other.cases[0].labels["necrosis"].voxels


def test_a_case_that_cannot_be_used_says_why_every_time(data: Path, tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    case = "BraTS-GLI-00003-000"
    write_one(data, case, 3, shape=(9, 10, 12))
    torn = data / "BraTS-GLI-00000-000" / "BraTS-GLI-00000-000-seg.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-20])
    for _ in range(2):
        found = measure_folder(data, cache=cache, intensities=True)
        assert [refusal.id for refusal in found.refused] == ["BraTS-GLI-00000-000", case]
        assert "is truncated or corrupt" in found.refused[0].error.message
        assert "t1n" in found.refused[1].error.message
        assert "9x10x12" in found.refused[1].error.message
    assert len(measure_folder(data, cache=cache).cases) == 3


def test_a_foreign_record_in_the_cache_is_measured_again(data: Path, tmp_path: Path, looked: list[str]) -> None:
    class Odd(ResultCache):
        def recall(self, what: str, files: object) -> object:
            return {"sizes": {}} if what.startswith("('case'") else None

    assert len(measure_folder(data, cache=Odd(tmp_path / "cache")).cases) == 4
    assert len(looked) == 4


def test_channels_of_one_file_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 90, (*SHAPE, 3)).astype(np.int16)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "x.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "l.nii.gz")
    path = tmp_path / "x.nii.gz"
    case = Case(
        "c", "c", {"t1c": path, "t2f": path}, tmp_path / "l.nii.gz", SCHEMES["msd"], path, ("t2f", "", "t1c"), "dataset"
    )
    assert files_of(case, intensities=True) == (tmp_path / "l.nii.gz", path)
    assert files_of(case) == (tmp_path / "l.nii.gz",)
    found = measure_case(case, intensities=True).intensities
    assert set(found) == {"t1c", "t2f"}
    assert found["t1c"].brain.mean == pytest.approx(image[..., 2].mean())
    assert found["t2f"].regions["WT"].mean == pytest.approx(image[labels > 0, 0].mean())
    nib.save(nib.Nifti1Image(image[..., :2], AFFINE), path)
    with pytest.raises(InputError, match=r"has 2 channels, expected 3 \(t2f, , t1c\)"):
        measure_case(case, intensities=True)


def test_an_image_that_is_no_number_is_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, np.float32), AFFINE), tmp_path / "x.nii.gz")
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), tmp_path / "l.nii.gz")
    case = Case("c", "c", {"t1c": tmp_path / "x.nii.gz"}, tmp_path / "l.nii.gz", SCHEMES["msd"])
    with pytest.raises(InputError, match=r"x\.nii\.gz: 990 of 990 voxels are NaN or infinite"):
        measure_case(case, intensities=True)
    with pytest.raises(ConflictError, match="case c: no label map with a known scheme"):
        measure_case(Case("c", "c", {}, tmp_path / "l.nii.gz"))


def test_damaged_measurement_records_are_refused() -> None:
    for record in ({}, {"sizes": {}, "intensities": None}):
        with pytest.raises(InputError, match="case measurement record cannot be read"):
            CaseMeasurement.from_dict(record)


@pytest.mark.parametrize("count", [1, 3])
def test_sequences_of_few_cases_are_read_at_the_same_time_and_come_out_the_same(data: Path, count: int) -> None:
    for case in sorted(data.iterdir())[count:]:
        for path in case.iterdir():
            path.unlink()
        case.rmdir()
    found = measure_folder(data, intensities=True, threads=8)
    assert as_json(found) == as_json(measure_folder(data, intensities=True, threads=1))
    assert list(found.intensities[found.cases[0].case_id]) == ["t1n", "t1c", "t2w", "t2f"]


def test_a_sequence_that_cannot_be_used_is_named_when_several_are_read_at_a_time(data: Path) -> None:
    (case,) = (case for case in discover(data) if case.id == "BraTS-GLI-00002-000")
    image = nib.load(case.sequences["t2w"])
    broken = np.asarray(image.dataobj).astype(np.float32)
    broken[4, 4, 4] = np.nan
    nib.save(nib.Nifti1Image(broken, AFFINE), case.sequences["t2w"])
    for threads in (1, 4):
        with pytest.raises(InputError, match=r"t2w\.nii\.gz: 1 of 990 voxels are NaN or infinite"):
            measure_case(case, intensities=True, threads=threads)
