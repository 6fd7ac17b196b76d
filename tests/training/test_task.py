"""The training task as the host calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rarevoxel.config import AppConfig
from rarevoxel.datastore import StudiesDatastore
from rarevoxel.errors import ConflictError, RequestError
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
    with pytest.raises(ConflictError, match="expected at least 2 patients"):
        task({"model": "calf", "max_epochs": 1}, one_label)
    stats = task.stats()
    assert stats["error"]["code"] == "conflict"
    assert "label more cases" in stats["error"]["hint"]
    assert stats["options"]["max_epochs"] == 1


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
