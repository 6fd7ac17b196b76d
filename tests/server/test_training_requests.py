"""What the app says to a request to train before anything is started, and of a run that was interrupted."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from monailabel.config import settings

from rarevoxel.errors import ConflictError, NotFoundError, RareVoxelError, RequestError
from rarevoxel.server.app import RareVoxelApp
from rarevoxel.server.starting import note_interrupted


@pytest.fixture(autouse=True)
def host_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))


REFUSED: list[tuple[Mapping[str, Any], type[RareVoxelError], str]] = [
    ({"model": "cafl"}, NotFoundError, "no model 'cafl'"),
    ({}, NotFoundError, "no model ''"),
    ({"model": "calf", "max_epochs": -1}, RequestError, "max_epochs: found -1, expected a number from 1 to 10000"),
    ({"model": "calf", "max_epochs": 1e9}, RequestError, "max_epochs: found 1000000000.0"),
    ({"model": "calf", "max_epochs": "x"}, RequestError, "max_epochs: found 'x'"),
    ({"model": "calf", "epochs": 3}, RequestError, "unknown training option"),
]


@pytest.mark.fault(40)
@pytest.mark.parametrize(("request_", "error", "message"), REFUSED)
def test_an_impossible_training_is_refused_at_once(
    app_folder: Path, studies: Path, request_: Mapping[str, Any], error: type[RareVoxelError], message: str
) -> None:
    app = RareVoxelApp(str(app_folder), str(studies), {})
    with pytest.raises(error, match=message) as caught:
        app.check_training(request_)
    assert caught.value.status == (404 if error is NotFoundError else 422)


@pytest.mark.fault(39)
@pytest.mark.parametrize("labels", [0, 1, 2])
def test_too_few_labels_are_told_at_once(app_folder: Path, studies: Path, labels: int) -> None:
    for path in sorted((studies / "labels" / "final").glob("*.nii.gz"))[labels:]:
        path.unlink()
    app = RareVoxelApp(str(app_folder), str(studies), {})
    message = f"{labels} labelled cases of {labels} patients, expected at least 3 patients"
    with pytest.raises(ConflictError, match=message) as caught:
        app.check_training({"model": "calf"})
    assert caught.value.status == 409
    assert "label more cases" in caught.value.hint
    assert not (app_folder / "model" / "calf").exists(), "nothing was started"


def test_enough_labels_are_enough(app_folder: Path, studies: Path) -> None:
    RareVoxelApp(str(app_folder), str(studies), {}).check_training({"model": "calf", "resume": False})


@pytest.mark.fault(36)
def test_an_interrupted_run_is_shown_and_noted(
    app_folder: Path, studies: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = app_folder / "model" / "calf" / "train_stats.json"
    stats.parent.mkdir()
    known = {"epoch": 4, "total_epochs": 9, "checkpoint_epoch": 4, "best_metric": 0.5}
    stats.write_text(json.dumps({**known, "status": "running", "pid": 2**22 + 7, "process_started": 1.0}))
    app = RareVoxelApp(str(app_folder), str(studies), {})
    shown = app.info()["train_stats"]
    note = "interrupted after epoch 4 of 9; the next training of the same goes on after epoch 4"
    assert shown == {"calf": {**known, "status": "interrupted", "note": note}, "dice_focal": {}}
    with caplog.at_level(logging.WARNING, "rarevoxel"):
        note_interrupted(app._trainers)
    assert caplog.messages == [f"the last training of calf was {note}"]
