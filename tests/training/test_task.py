"""The training task as the host calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rarevoxel.config import AppConfig, ModelConfig
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.networks import TwoStageNetwork, load_weights
from rarevoxel.training.task import TumorTrainTask


@pytest.fixture
def one_label(studies: Path) -> StudiesDatastore:
    for path in sorted((studies / "labels" / "final").glob("*.nii.gz"))[1:]:
        path.unlink()
    return StudiesDatastore(str(studies))


def test_a_run_that_cannot_start_leaves_its_reason_in_the_stats(
    config: AppConfig, app_folder: Path, one_label: StudiesDatastore
) -> None:
    task = TumorTrainTask("calf", config, app_folder)
    with pytest.raises(ConflictError, match="expected at least 3 patients"):
        task({"model": "calf", "max_epochs": 1}, one_label)
    stats = task.stats()
    assert stats["error"]["code"] == "conflict"
    assert "label more cases" in stats["error"]["hint"]
    assert stats["options"]["max_epochs"] == 1


def test_a_filter_that_leaves_no_case_leaves_its_reason_in_the_stats(
    config: AppConfig, app_folder: Path, studies: Path
) -> None:
    task = TumorTrainTask("calf", config, app_folder)
    with pytest.raises(ConflictError, match=r"the filter drops all \d entries \(tiny \d\), expected at least one left"):
        task({"model": "calf", "max_epochs": 1, "filter": "tiny:1e9"}, StudiesDatastore(str(studies)))
    stats = task.stats()
    assert stats["error"]["code"] == "conflict"
    assert "the filter drops all" in stats["error"]["message"]
    assert "loosen or leave out a rule; the first: phantom-" in stats["error"]["hint"]
    assert stats["options"]["filter"] == "tiny:1e9"
    assert not (app_folder / "model" / "calf.pt").exists()


def test_a_two_stage_model_trains_two_networks(config: AppConfig, app_folder: Path, studies: Path) -> None:
    models = {**config.models, "two_stage": ModelConfig("dice_ce", "two networks", "soft")}
    task = TumorTrainTask("two_stage", replace(config, models=models), app_folder)
    stats = task({"model": "two_stage", "max_epochs": 1}, StudiesDatastore(str(studies)))
    assert stats["second_stage"]["form"] == task.stats()["second_stage"]["form"] == "soft"
    (candidate,) = (app_folder / "model" / "two_stage" / "runs").glob("*/candidate.pt")
    assert isinstance(load_weights(candidate)[0], TwoStageNetwork)


def test_torn_stats_are_a_warning(config: AppConfig, app_folder: Path) -> None:
    task = TumorTrainTask("calf", config, app_folder)
    assert task.stats() == {}
    path = app_folder / "model" / "calf" / "train_stats.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"epoch": 3, "tot')
    assert "cannot be read" in task.stats()["warning"]
    path.write_text(json.dumps([1]))
    assert "does not hold stats" in task.stats()["warning"]


def test_options_are_what_slicer_can_show(config: AppConfig, app_folder: Path) -> None:
    options = TumorTrainTask("dice_focal", config, app_folder).config()
    assert options["loss"][0] == "dice_focal"
    assert all(isinstance(name, str) for name in options["loss"])
    assert all(isinstance(value, (list, bool)) or value != 0 for value in options.values())
    with pytest.raises(RequestError, match="unknown loss 'x'"):
        TumorTrainTask("calf", config, app_folder).options({"loss": "x"})
