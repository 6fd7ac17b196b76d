"""A real server that trains by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from rarevoxel.server.process import ServerProcess

pytestmark = pytest.mark.server

WAIT_S = 240.0


def status(url: str) -> dict[str, Any]:
    reply = requests.get(f"{url}/train/", timeout=30)
    return dict(reply.json()) if reply.status_code == 200 else {}


def test_a_correction_starts_a_training_and_the_gate_decides(studies: Path, app_folder: Path, tmp_path: Path) -> None:
    options = ["--app", str(app_folder), "--conf", "train_after", "1", "--conf", "models", "calf"]
    toml = app_folder / "app.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("max_epochs = 2", "max_epochs = 1"), encoding="utf-8")
    with ServerProcess(studies, home=tmp_path / "home", log=tmp_path / "log", options=options) as server:
        server.wait_until_ready(180)
        time.sleep(3)
        assert status(server.url) == {}, "nothing is new, so nothing may be trained"
        label = studies / "labels" / "final" / "phantom-001.nii.gz"
        with label.open("rb") as stream:
            where = {"image": "phantom-003", "tag": "final"}
            files = {"label": (label.name, stream)}
            assert (
                requests.put(f"{server.url}/datastore/label", params=where, files=files, timeout=60).status_code == 200
            )
        deadline = time.monotonic() + WAIT_S
        while status(server.url).get("status") not in {"DONE", "ERROR"} and time.monotonic() < deadline:
            time.sleep(0.5)
        found = status(server.url)
        assert found["status"] == "DONE", server.tail(40)
        assert found["request"]["client_id"] == "auto-training"
        stats = requests.get(f"{server.url}/info/", timeout=30).json()["train_stats"]["calf"]
        assert stats["gate"]["reason"].startswith(("published: ", "not published: "))
        counted = json.loads(next((tmp_path / "home").rglob("auto_training.json")).read_text(encoding="utf-8"))
        assert counted == {"corrections": 0}
