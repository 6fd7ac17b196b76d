from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cases.table import Study, save_table
from rarevoxel.comparison.data import (
    DATA_SEED,
    PRETRAINED_ON,
    PRETRAINING_SEED,
    Entry,
    Fold,
    PhantomSet,
    fold_record,
    phantom_fold,
    pretraining_entries,
    studies_folds,
)
from rarevoxel.errors import ConfigError, ConflictError, InputError, RequestError
from rarevoxel.phantom import SEVERITIES, PhantomSpec, make_phantom
from rarevoxel.volumes import read_header, read_labels

SMALL = PhantomSet(train=2, tune=1, test=2, size=(20, 24, 20), spacing=8.0)


def sides(fold: Fold) -> list[list[str]]:
    return [[entry.id for entry in side] for side in (fold.train, fold.tune, fold.test)]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Of every file its bytes and when it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    phantom_fold("tiny", folder, SMALL)
    return folder


@pytest.fixture
def cases(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "cases", copy_function=shutil.copy2))


def test_phantoms_are_split_in_their_order(written: Path) -> None:
    fold = phantom_fold("tiny", written, SMALL)
    assert sides(fold) == [["tiny-001", "tiny-002"], ["tiny-003"], ["tiny-004", "tiny-005"]]
    assert (fold.regime, fold.name, fold.phantoms) == ("tiny", "tiny", True)
    for entry in chain(fold.train, fold.tune, fold.test):
        assert Path(entry.image) == written / "tiny" / entry.id / "t1c.nii.gz"
        assert Path(entry.label) == written / "tiny" / entry.id / "seg.nii.gz"
        assert Path(entry.image).is_file()
    assert fold.train[0].to_dict() == {"id": "tiny-001", "image": fold.train[0].image, "label": fold.train[0].label}
    assert sorted(path.name for path in (written / "tiny").iterdir()) == list(chain(*sides(fold)))


def test_a_phantom_has_the_seed_of_its_regime_and_number(written: Path) -> None:
    spec = PhantomSpec((20, 24, 20), (8.0,) * 3, severity="tiny")
    first = DATA_SEED + 1000 * list(SEVERITIES).index("tiny")
    for number in (1, 5):
        found = read_labels(written / "tiny" / f"tiny-{number:03d}" / "seg.nii.gz")
        np.testing.assert_array_equal(found, make_phantom(first + number - 1, spec).labels)


def test_phantoms_are_written_once(cases: Path) -> None:
    before = contents(cases)
    phantom_fold("tiny", cases, SMALL)
    assert contents(cases) == before


def test_what_is_missing_is_written_as_it_was_and_nothing_else(cases: Path) -> None:
    before = contents(cases)
    shutil.rmtree(cases / "tiny" / "tiny-002")
    (cases / "tiny" / "tiny-004" / "seg.nii.gz").unlink()
    phantom_fold("tiny", cases, SMALL)
    after = contents(cases)
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}
    changed = {name.split("/")[1] for name in before if before[name] != after[name]}
    assert changed == {"tiny-002", "tiny-004"}


def test_more_phantoms_keep_the_first(cases: Path) -> None:
    before = contents(cases)
    fold = phantom_fold("tiny", cases, PhantomSet(3, 1, 2, size=SMALL.size, spacing=SMALL.spacing))
    assert sides(fold) == [["tiny-001", "tiny-002", "tiny-003"], ["tiny-004"], ["tiny-005", "tiny-006"]]
    assert before.items() <= contents(cases).items()


@pytest.mark.parametrize("other", [{"spacing": 7.0}, {"size": (24, 24, 20)}])
def test_phantoms_of_another_grid_are_not_taken_for_these(cases: Path, other: dict) -> None:
    asked = {"size": SMALL.size, "spacing": SMALL.spacing} | other
    before = contents(cases)
    with pytest.raises(ConflictError, match=r"20x24x20 at 8x8x8 mm RAS.* found, expected"):
        phantom_fold("tiny", cases, PhantomSet(2, 1, 3, **asked))
    assert contents(cases) == before
    assert read_header(cases / "tiny" / "tiny-001" / "seg.nii.gz").shape == SMALL.size


def test_other_phantoms_have_other_names_and_seeds(cases: Path) -> None:
    before = contents(cases)
    fold = phantom_fold("tiny", cases, PhantomSet(1, 0, 1, SMALL.size, SMALL.spacing, seed=500))
    assert sides(fold) == [["tiny-500-001"], [], ["tiny-500-002"]]
    assert (fold.regime, fold.name) == ("tiny", "tiny")
    spec = PhantomSpec(SMALL.size, (8.0,) * 3, severity="tiny")
    expected = make_phantom(500 + 1000 * list(SEVERITIES).index("tiny") + 1, spec)
    np.testing.assert_array_equal(read_labels(fold.test[0].label), expected.labels)
    assert before.items() <= contents(cases).items()


def test_nothing_is_judged_with_what_the_start_was_trained_on(tmp_path: Path) -> None:
    entries = pretraining_entries(tmp_path, 8.0, each=1)
    assert [entry.id for entry in entries] == [f"start-{regime}-001" for regime in PRETRAINED_ON]
    every = len(SEVERITIES) * 1000
    used = {PRETRAINING_SEED + 1000 * number + k for number in range(len(PRETRAINED_ON)) for k in range(1000)}
    assert not used & set(range(DATA_SEED, DATA_SEED + every))
    for seed in (PRETRAINING_SEED, min(used) - every + 1, max(used), -1):
        with pytest.raises(RequestError, match=rf"seed of the phantoms \({seed}\) must be >= 0 and 1000 per regime"):
            PhantomSet(seed=seed)
    for seed in (min(used) - every, max(used) + 1, 0):
        assert not used & set(range(PhantomSet(seed=seed).seed, seed + every))


def test_no_such_phantoms(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"unknown regime 'tinny'.*did you mean 'tiny'"):
        phantom_fold("tinny", tmp_path, SMALL)
    with pytest.raises(ConfigError, match="too small"):
        phantom_fold("tiny", tmp_path, PhantomSet(size=(8, 8, 8)))
    for wrong in ({"train": 0}, {"test": 0}, {"tune": -1}):
        with pytest.raises(RequestError, match=r"train \(\d+\) and test \(\d+\) must be >= 1, tune \(-?\d\) >= 0"):
            PhantomSet(**wrong)
    assert list(tmp_path.iterdir()) == []


def a_studies_folder(
    folder: Path, patients: dict[str, int], labelled: int | None = None, reverse: bool = False
) -> Path:
    """A studies folder of empty files with as many visits of each patient; only the first visits have labels."""
    final = folder / "labels" / "final"
    final.mkdir(parents=True)
    table = {}
    for number, name in enumerate(sorted(patients, reverse=reverse)):
        for visit in range(patients[name]):
            case = f"{number:02d}{'abc'[visit]}-{name}"
            sequences = {kind: f"sequences/{case}/{kind}.nii.gz" for kind in ("t1n", "t1c", "t2w", "t2f")}
            table[case] = Study(name, sequences, f"{case}.nii.gz", None, "")
            if labelled is None or visit < labelled:
                (final / f"{case}.nii.gz").touch()
    save_table(folder, table)
    return folder


def patients_of(entries: tuple[Entry, ...]) -> set[str]:
    return {entry.id.partition("-")[2] for entry in entries}


@pytest.mark.parametrize(("count", "folds"), [(2, 2), (3, 2), (7, 3), (14, 2), (26, 2), (33, 3), (5, 5)])
def test_a_patient_is_on_one_side_and_tested_once(tmp_path: Path, count: int, folds: int) -> None:
    patients = {f"p{number}": 1 + number % 3 for number in range(count)}
    found = studies_folds(a_studies_folder(tmp_path / "site", patients), folds)
    assert [fold.name for fold in found] == [f"site-{number + 1}" for number in range(folds)]
    assert {(fold.regime, fold.phantoms) for fold in found} == {("site", False)}
    tested = list(chain(*(sorted(patients_of(fold.test)) for fold in found)))
    assert sorted(tested) == sorted(patients)
    assert max(len(patients_of(fold.test)) for fold in found) - count // folds in (0, 1)
    for fold in found:
        groups = [patients_of(side) for side in (fold.train, fold.tune, fold.test)]
        assert sum(map(len, groups)) == count
        assert set.union(*groups) == set(patients)
        assert sum(map(len, sides(fold))) == sum(patients.values())
        assert groups[0]
        rest = count - len(groups[2])
        assert (len(groups[1]) == 0) if rest < 12 else (4 <= len(groups[1]) <= rest // 3 + 1)


def test_two_patients_are_left_out_one_at_a_time(tmp_path: Path) -> None:
    first, second = studies_folds(a_studies_folder(tmp_path / "site", {"p": 1, "q": 2}), 2)
    assert sorted(map(len, sides(first))) == [0, 1, 2]
    assert patients_of(first.test) == patients_of(second.train)
    assert patients_of(first.train) == patients_of(second.test)


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    patients = {f"p{number}": 1 for number in range(15)}
    one = studies_folds(a_studies_folder(tmp_path / "one" / "site", patients), 2)
    other = studies_folds(a_studies_folder(tmp_path / "other" / "site", patients, reverse=True), 2)
    for left, right in zip(one, other, strict=True):
        for side in ("train", "tune", "test"):
            assert patients_of(getattr(left, side)) == patients_of(getattr(right, side))


def test_entries_are_the_display_volume_and_the_final_label(tmp_path: Path) -> None:
    folder = a_studies_folder(tmp_path / "site", {"p": 2, "q": 2, "r": 2}, labelled=1)
    entries = list(chain(*(fold.test for fold in studies_folds(folder, 3))))
    assert sorted(entry.id for entry in entries) == ["00a-p", "01a-q", "02a-r"]
    entry = next(entry for entry in entries if entry.id == "00a-p")
    assert entry.image == str(folder / "sequences" / "00a-p" / "t1c.nii.gz")
    assert entry.label == str(folder / "labels" / "final" / "00a-p.nii.gz")


def test_a_folder_without_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(a_studies_folder(tmp_path / "site", {"p": 1, "q": 1}))
    assert studies_folds(Path(), 2)[0].regime == "site"
    assert studies_folds(Path("labels/.."), 2)[0].regime == "site"


def test_too_few_patients(tmp_path: Path) -> None:
    folder = a_studies_folder(tmp_path / "site", {"p": 3, "q": 1})
    with pytest.raises(ConflictError, match="2 labelled patients, expected at least 3 for 3 folds"):
        studies_folds(folder, 3)
    with pytest.raises(RequestError, match=r"folds \(1\) must be >= 2"):
        studies_folds(folder, 1)
    none = a_studies_folder(tmp_path / "none", {"p": 1, "q": 1}, labelled=0)
    with pytest.raises(ConflictError, match="0 labelled patients"):
        studies_folds(none, 2)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_data_set_is_no_studies_folder(cases: Path, labelled: bool) -> None:
    if not labelled:
        for label in cases.rglob("seg.nii.gz"):
            label.unlink()
    with pytest.raises(InputError, match=r"a data set, expected a studies folder.*rarevoxel prepare"):
        studies_folds(cases / "tiny", 2)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        studies_folds(tmp_path / "nowhere", 2)


def test_the_record_of_a_fold_names_its_cases(written: Path) -> None:
    record = fold_record(phantom_fold("tiny", written, SMALL))
    assert json.loads(json.dumps(record)) == {
        "regime": "tiny",
        "name": "tiny",
        "phantoms": True,
        "train": ["tiny-001", "tiny-002"],
        "tune": ["tiny-003"],
        "test": ["tiny-004", "tiny-005"],
    }
