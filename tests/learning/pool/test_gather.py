"""The pool of a studies folder: what waits, what is labelled, what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.labels import REGIONS
from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.learning.pool.doubts import doubt
from rarevoxel.learning.pool.gather import PoolSource, Scorer
from rarevoxel.learning.pool.labelled import Label, LabelledSizes, region_sizes
from rarevoxel.statistics.cache import ResultCache
from rarevoxel.statistics.folder import measure_folder

WAITING = ("phantom-003", "phantom-006")
LABELLED = ("phantom-001", "phantom-002", "phantom-004", "phantom-005")
PATIENT_S = 60.0


@pytest.fixture
def store(studies: Path) -> ScoreStore:
    return ScoreStore(studies / "scores" / "calf")


@pytest.fixture
def datastore(studies: Path) -> StudiesDatastore:
    return StudiesDatastore(str(studies))


def source_of(store: ScoreStore, tmp_path: Path, **parts: Any) -> PoolSource:
    sizes = LabelledSizes(ResultCache(tmp_path / "cache"))
    return PoolSource({"calf": Scorer(store)}, sizes, **parts)


def test_sizes_are_those_of_the_statistics(studies: Path, tmp_path: Path, datastore: StudiesDatastore) -> None:
    source = source_of(ScoreStore(studies / "none"), tmp_path)
    labels = {case: source._label(datastore, case) for case in datastore.get_labeled_images()}
    assert sorted(source.sizes.of(labels, PATIENT_S)) == list(LABELLED)
    pool = source.waiting(datastore, "calf", by_scores=True).pool
    expected = measure_folder(studies).cases
    assert pool.waiting == WAITING
    for region in REGIONS:
        volumes = [case.regions[region].volume for case in expected]
        assert pool.labelled_volumes[region] == pytest.approx(volumes)
        sizes = [size for case in expected for size in case.regions[region].components]
        assert pool.labelled_sizes[region] == pytest.approx(sizes)


def test_a_label_is_read_once_a_version(studies: Path, tmp_path: Path) -> None:
    path = studies / "labels" / "final" / "phantom-001.nii.gz"
    read: list[str] = []

    def label(version: str) -> dict[str, Label]:
        return {"a": Label(version, lambda: (read.append(version), path)[1])}

    sizes = LabelledSizes(ResultCache(tmp_path / "cache"))
    for version in ("1", "1", "2", "2"):
        assert sizes.of(label(version), PATIENT_S).keys() == {"a"}
    assert read == ["1", "2"]
    assert sizes.of({}, PATIENT_S) == {}


def test_an_unreadable_label_counts_for_nothing_and_keeps_nobody_waiting(studies: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"no volume")
    good = studies / "labels" / "final" / "phantom-001.nii.gz"
    labels = {"torn": Label("1", lambda: torn), "gone": Label("1", lambda: tmp_path / "x.nii.gz")}
    sizes = LabelledSizes(ResultCache(tmp_path / "cache"))
    found = sizes.of({**labels, "good": Label("1", lambda: good)}, PATIENT_S)
    assert found.keys() == {"good"}
    assert region_sizes(found)["WT"]


def test_scores_and_what_cannot_be_read(store: ScoreStore, tmp_path: Path, datastore: StudiesDatastore) -> None:
    store.write(CaseScore("phantom-003", weights="w", features=(1.0,)))
    store.write(CaseScore("phantom-006", error="t2w is torn"))
    store.write(CaseScore("phantom-001", weights="w", features=(2.0,)))
    store.write(CaseScore("nobody", weights="w", features=(3.0,)))
    source = source_of(store, tmp_path)
    for by_scores in (True, False):
        gathered = source.waiting(datastore, "calf", by_scores=by_scores)
        assert gathered.pool.waiting == ("phantom-003",)
        assert gathered.left_out == {"phantom-006": "t2w is torn"}
    gathered = source.waiting(datastore, "calf", by_scores=True)
    assert gathered.pool.scores.keys() == {"phantom-003"}
    assert gathered.pool.labelled_features == {"phantom-001": (2.0,)}


def test_a_new_score_is_seen_and_leased_cases_count_as_labelled_ones(
    store: ScoreStore, tmp_path: Path, datastore: StudiesDatastore
) -> None:
    source = source_of(store, tmp_path)
    assert source.waiting(datastore, "calf", by_scores=True).pool.scores == {}
    store.write(CaseScore("phantom-003", weights="w", features=(1.0,)))
    pool = source.waiting(datastore, "calf", by_scores=True, in_work=["phantom-003", "phantom-006"]).pool
    assert pool.scores.keys() == {"phantom-003"}
    assert pool.labelled_features == {"phantom-003": (1.0,)}


def test_features_of_two_networks_are_not_compared(
    store: ScoreStore, tmp_path: Path, datastore: StudiesDatastore
) -> None:
    for case, weights in (("phantom-001", "new"), ("phantom-003", "new"), ("phantom-006", "old")):
        store.write(CaseScore(case, weights=weights, entropy={"ET": 0.5}, features=(1.0,)))
    pool = source_of(store, tmp_path).waiting(datastore, "calf", by_scores=True).pool
    assert {case: score.features for case, score in pool.scores.items()} == {"phantom-003": (1.0,), "phantom-006": ()}
    assert pool.scores["phantom-006"].entropy == {"ET": 0.5}


def test_ages_are_from_the_last_time_a_case_was_handed_out(
    store: ScoreStore, tmp_path: Path, datastore: StudiesDatastore
) -> None:
    datastore.update_image_info("phantom-003", {"strategy": {"random": {"ts": 900}, "first": {"ts": 940}}})
    datastore.update_image_info("phantom-006", {"strategy": "a note of somebody's"})
    source = source_of(store, tmp_path, clock=lambda: 1000.0)
    assert source.waiting(datastore, "calf", by_scores=False).pool.ages == {"phantom-003": 60.0}


def test_doubts(store: ScoreStore, tmp_path: Path, datastore: StudiesDatastore) -> None:
    asked: list[str] = []

    def findings(case: str) -> Sequence[Mapping[str, Any]]:
        asked.append(case)
        return [{"code": "islands", "message": "3 islands"}] if case == "phantom-002" else []

    datastore.update_label_info("phantom-001", "final", {"dice": {"calf": {"WT": 0.6, "ET": 0.2}, "other": {"WT": 0}}})
    made = datastore.get_label_info("phantom-001", "final").get("ts", 0)
    datastore.update_image_info("phantom-001", {"strategy": {"review": {"ts": made + 1}}})
    # Before its label was made, and by another strategy after it: neither counts as sent back.
    datastore.update_image_info("phantom-002", {"strategy": {"review": {"ts": made - 1}, "random": {"ts": made + 1}}})
    source = source_of(store, tmp_path, findings=findings, clock=lambda: made + 11.0)
    for _ in range(2):
        pool = source.doubtful(datastore, "calf", "review").pool
    assert pool.waiting == ("phantom-001", "phantom-002")
    assert pool.doubts["phantom-001"] == (0.6, "the model agrees little: Dice 0.40, lowest for ET (0.20)")
    assert pool.doubts["phantom-002"] == (pytest.approx(0.3), "the quality check says: 3 islands")
    assert pool.ages == {"phantom-001": 10.0}
    assert asked == list(LABELLED), "findings are read once a version"


def test_doubt_by_hand() -> None:
    three = [{"message": "one"}, {"code": "two"}, {"message": "three"}]
    assert doubt([], {}) == (0.0, "")
    assert doubt([], {"WT": 1.0}) == (0.0, "")
    value, why = doubt(three, {"WT": 0.9})
    assert value == pytest.approx(1 - 0.9 * 0.7**3)
    assert why == "the model mostly agrees: Dice 0.90; the quality check says: one; two (and 1 more)"


@pytest.mark.parametrize("part", [{"entropy": {"ET": float("nan")}}, {"entropy": [1]}, {"candidates": [{}]}])
def test_a_score_that_cannot_be_sorted_by_is_left_out(
    store: ScoreStore, part: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    store.write(CaseScore("phantom-003"))
    (store.folder / "phantom-006.json").write_text(json.dumps({"case": "phantom-006", **part}))
    assert store.read().keys() == {"phantom-003"}
    assert "score of case phantom-006 is not used" in caplog.text
