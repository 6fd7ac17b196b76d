"""Scores, on a datastore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.config import AppConfig
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.evaluation import mean_dice, region_dice
from rarevoxel.evaluation.masks import mask_scores
from rarevoxel.inference import Engine
from rarevoxel.learning.confidence import calibration_error
from rarevoxel.learning.scoring import RegionScoring
from rarevoxel.volumes import label_bytes, read_label_volume, read_labels


def test_scores_are_the_dice_of_the_prediction(studies: Path, config: AppConfig, tiny_weights: Path) -> None:
    datastore = StudiesDatastore(str(studies))
    engine = Engine(config, [tiny_weights], device="cpu")
    result = RegionScoring("calf", engine)({}, datastore)
    labelled = sorted(datastore.get_labeled_images())
    assert sorted(result["cases"]) == labelled
    assert result["skipped"] == {}
    assert result["mean"] == pytest.approx(mean_dice(list(result["cases"].values())))
    case = labelled[0]
    truth = read_labels(studies / "labels" / "final" / f"{case}.nii.gz")
    expected = region_dice(engine.predict(studies / f"{case}.nii.gz").labels, truth)
    assert result["cases"][case] == expected
    assert datastore.get_label_info(case, "final")["dice"]["calf"] == expected
    scores = result["scores"][case]
    assert scores["regions"] == mask_scores(engine.predict(studies / f"{case}.nii.gz").labels, truth, (4.0, 4.0, 4.0))
    assert set(scores["quality"]) == {"WT", "TC", "ET"}
    said = [score["confidence"]["ET"] for score in result["scores"].values()]
    given = [one["ET"] for one in result["cases"].values()]
    assert result["confidence"]["ET"]["cases"] == len(labelled)
    assert result["confidence"]["ET"]["error"] == pytest.approx(calibration_error(np.array(said), np.array(given)))
    assert result["confidence"]["ET"]["map"] == []
    assert result["regions"]["WT"]["dice"] == pytest.approx(np.mean([one["WT"] for one in result["cases"].values()]))


def test_scores_stay_with_the_version_and_the_weights_they_are_of(
    studies: Path, config: AppConfig, tiny_weights: Path
) -> None:
    datastore = StudiesDatastore(str(studies))
    case, engine = "phantom-001", Engine(config, [tiny_weights], device="cpu")
    label = read_label_volume(studies / "labels" / "final" / f"{case}.nii.gz")
    RegionScoring("calf", engine)({}, datastore)
    changed = label.array.copy()
    changed[changed == 3] = 2
    file = studies.parent / "changed.nii.gz"
    file.write_bytes(label_bytes(changed, label.grid.affine))
    datastore.save_label(case, str(file), "final", {})
    assert "dice" not in datastore.get_label_info(case, "final")
    result = RegionScoring("calf", engine)({}, datastore)
    first, second = (version["model_scores"]["calf"] for version in datastore.versions(case, "final"))
    assert first["regions"]["ET"]["truth_ml"] > 0 == second["regions"]["ET"]["truth_ml"]
    assert second["regions"] == result["scores"][case]["regions"]
    assert first["model"]["sha256"] == second["model"]["sha256"] == engine.model()["sha256"]


def test_scores_of_a_label_that_was_changed_meanwhile_go_to_its_old_version(
    studies: Path, config: AppConfig, tiny_weights: Path
) -> None:
    datastore = StudiesDatastore(str(studies))
    RegionScoring("calf", Engine(config, [tiny_weights], device="cpu"))({}, datastore)
    assert not datastore.keep_scores("phantom-001", "final", 7, "calf", {"regions": {}})
    assert datastore.keep_scores("phantom-001", "final", 1, "calf", {"regions": {}})


def test_a_case_that_cannot_be_scored_is_listed(studies: Path, config: AppConfig, tiny_weights: Path) -> None:
    datastore = StudiesDatastore(str(studies))
    (studies / "sequences" / "phantom-001" / "t2w.nii.gz").write_bytes(b"")
    result = RegionScoring("calf", Engine(config, [tiny_weights], device="cpu"))({}, datastore)
    assert "phantom-001" not in result["cases"]
    assert "file is empty" in result["skipped"]["phantom-001"]
    assert np.isfinite(result["mean"])


def test_without_labels_there_is_no_mean(
    studies: Path, config: AppConfig, tiny_weights: Path, save_tiny: Callable[..., Path]
) -> None:
    datastore = StudiesDatastore(str(studies))
    for case in list(datastore.get_labeled_images()):
        datastore.remove_label(case, "final")
    result = RegionScoring("calf", Engine(config, [tiny_weights], device="cpu"))({}, datastore)
    assert result == {
        "mean": None,
        "regions": {},
        "quality": {},
        "confidence": {},
        "cases": {},
        "scores": {},
        "skipped": {},
    }
