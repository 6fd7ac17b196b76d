"""The weights of a running app: never taken from a client, put in order at the start, told when others serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from monailabel.config import settings
from monailabel.endpoints import model as host

from rarevoxel.lineage import Lineage
from rarevoxel.server.app import RareVoxelApp
from rarevoxel.server.http import HttpError
from rarevoxel.server.starting import recover_models
from rarevoxel.training import Registry
from rarevoxel.volumes import file_sha256


@pytest.fixture
def app(app_folder: Path, studies: Path, monkeypatch: pytest.MonkeyPatch) -> RareVoxelApp:
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    app = RareVoxelApp(str(app_folder), str(studies), {})
    monkeypatch.setattr(host, "app_instance", lambda: app)
    return app


@pytest.fixture
def publish(app_folder: Path, tmp_path: Path, save_tiny: Callable[..., Path]) -> Callable[[int], str]:
    def run(seed: int) -> str:
        candidate = save_tiny(tmp_path / "candidate.pt", seed=seed)
        lineage = Lineage("calf", f"run-{seed}", f"2026-01-0{seed}", file_sha256(candidate))
        return Registry(app_folder, "calf").publish(candidate, lineage).sha256

    return run


@pytest.mark.fault(37)
def test_weights_of_a_client_are_never_taken(
    app: RareVoxelApp, publish: Callable[[int], str], app_folder: Path
) -> None:
    sha256 = publish(1)
    with pytest.raises(HttpError, match="weights sent by a client are never taken") as caught:
        app.model_file("calf", validate=False)
    assert caught.value.status_code == 403
    assert "rarevoxel rollback" in caught.value.detail["hint"]
    assert app.model_file("calf") == str(app_folder / "model" / "calf.pt")
    assert file_sha256(app_folder / "model" / "calf.pt") == sha256
    assert app.model_file("dice_focal") is None
    with pytest.raises(HttpError, match="no model 'x'"):
        app.model_file("x")


@pytest.mark.fault(37)
def test_a_deletion_by_the_host_takes_nothing_out_of_service(
    app: RareVoxelApp, publish: Callable[[int], str], studies: Path, app_folder: Path
) -> None:
    sha256 = publish(1)
    host.delete_model("calf")
    assert not (app_folder / "model" / "calf.pt").exists()
    result = app.infer({"model": "calf", "image": "phantom-001"})
    Path(result["file"]).unlink()
    assert result["params"]["model"]["sha256"] == sha256
    recover_models(app_folder, ["calf"], 5)
    assert host.model_info("calf")["checksum"]
    assert file_sha256(app_folder / "model" / "calf.pt") == sha256


@pytest.mark.fault(37)
def test_other_weights_than_published_are_told(
    app: RareVoxelApp, publish: Callable[[int], str], app_folder: Path
) -> None:
    publish(1)
    (app_folder / "model" / "calf.pt").write_bytes(b"torn")
    result = app.infer({"model": "calf", "image": "phantom-001"})
    Path(result["file"]).unlink()
    info = json.loads(json.dumps(app.info()["models"]))
    assert info["calf"]["warning"].startswith("calf.pt: checksum")
    assert info["calf"]["warning"].endswith("version run-1 serves")
    assert "warning" not in info["dice_focal"]
