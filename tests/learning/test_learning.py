"""Scores, on a datastore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.config import AppConfig
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.evaluation import mean_dice, region_dice
from rarevoxel.inference import Engine
from rarevoxel.learning.scoring import RegionDiceScoring
from rarevoxel.volumes import read_labels


def test_scores_are_the_dice_of_the_prediction(studies: Path, config: AppConfig, tiny_weights: Path) -> None:
    datastore = StudiesDatastore(str(studies))
    engine = Engine(config, [tiny_weights], device="cpu")
    result = RegionDiceScoring("calf", engine)({}, datastore)
    labelled = sorted(datastore.get_labeled_images())
    assert sorted(result["cases"]) == labelled
    assert result["skipped"] == {}
    assert result["mean"] == pytest.approx(mean_dice(list(result["cases"].values())))
    case = labelled[0]
    truth = read_labels(studies / "labels" / "final" / f"{case}.nii.gz")
    expected = region_dice(engine.predict(studies / f"{case}.nii.gz").labels, truth)
    assert result["cases"][case] == expected
    assert datastore.get_label_info(case, "final")["dice"]["calf"] == expected


def test_a_case_that_cannot_be_scored_is_listed(studies: Path, config: AppConfig, tiny_weights: Path) -> None:
    datastore = StudiesDatastore(str(studies))
    (studies / "sequences" / "phantom-001" / "t2w.nii.gz").write_bytes(b"")
    result = RegionDiceScoring("calf", Engine(config, [tiny_weights], device="cpu"))({}, datastore)
    assert "phantom-001" not in result["cases"]
    assert "file is empty" in result["skipped"]["phantom-001"]
    assert np.isfinite(result["mean"])


def test_without_labels_there_is_no_mean(
    studies: Path, config: AppConfig, tiny_weights: Path, save_tiny: Callable[..., Path]
) -> None:
    datastore = StudiesDatastore(str(studies))
    for case in list(datastore.get_labeled_images()):
        datastore.remove_label(case, "final")
    result = RegionDiceScoring("calf", Engine(config, [tiny_weights], device="cpu"))({}, datastore)
    assert result == {"mean": None, "cases": {}, "skipped": {}}
