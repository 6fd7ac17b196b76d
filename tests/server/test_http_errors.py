"""Every error a client can cause comes back as JSON with a code, a message and a hint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient

from rarevoxel.errors import ConflictError
from rarevoxel.phantom import Phantom
from rarevoxel.server.http import HttpError, answering
from rarevoxel.volumes import file_sha256, read_labels

CASE = "phantom-001"


@pytest.fixture
def upload(tmp_path: Path, phantom: Phantom) -> bytes:
    nib.save(nib.Nifti1Image((phantom.labels > 0).astype(np.uint8), phantom.affine), tmp_path / "up.nii.gz")
    return (tmp_path / "up.nii.gz").read_bytes()


def put_label(client: TestClient, content: bytes, params: Any = "{}", name: str = "x.nii.gz", **query: str) -> Any:
    query = {"image": CASE, **query}
    return client.put("/datastore/label", params=query, data={"params": params}, files={"label": (name, content)})


def check(response: Any, status: int, *words: str, code: str = "") -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) - {"findings"} == {"code", "message", "hint"}
    assert "/tmp" not in response.text, "no path of the server"
    assert body["error"]["message"]
    assert not code or body["error"]["code"] == code
    for word in words:
        assert word in body["error"]["message"], body


@pytest.mark.fault(1)
@pytest.mark.fault(2)
def test_not_found(client: TestClient) -> None:
    check(client.post("/infer/nnunet", params={"image": CASE}), 404, "nnunet", "calf", code="not_found")
    check(client.post("/infer/calf", params={"image": "nobody"}), 404, "nobody", code="not_found")
    check(client.post("/train/nnunet", json={}), 404, "nnunet", code="not_found")
    check(client.post("/activelearning/oldest", json={}), 404, "oldest", "random")
    check(client.post("/scoring/dice", params={"run_sync": True}), 404, "dice")
    check(client.post("/scoring/dice"), 404, "dice")
    check(client.post("/batch/infer/nnunet", json={}), 404, "nnunet")
    check(client.delete("/datastore/image", params={"id": "nobody"}), 404, "nobody")
    check(client.delete("/datastore/label", params={"id": CASE, "tag": "original"}), 404, "original")
    check(client.get("/datastore/image", params={"image": "nobody"}), 404)
    check(client.put("/datastore/image/info", params={"image": "nobody"}, data={"info": "{}"}), 404, "nobody")
    check(client.get("/nowhere"), 404, code="http_404")
    check(client.get("/infer/calf"), 405, code="http_405")
    check(client.get("/train/"), 404)


@pytest.mark.fault(3)
@pytest.mark.parametrize("params", ["[1]", "nonsense", '"text"', "3", "null", "[" * 100_000])
def test_params_must_be_a_json_object(client: TestClient, upload: bytes, params: str) -> None:
    check(client.post("/infer/calf", params={"image": CASE}, data={"params": params}), 400, "params is")
    check(put_label(client, upload, params), 400, "params is", code="malformed")


@pytest.mark.fault(4)
@pytest.mark.fault(5)
def test_params_cannot_point_elsewhere(client: TestClient, studies: Path) -> None:
    def infer(**params: Any) -> Any:
        return client.post("/infer/calf", params={"image": CASE}, data={"params": json.dumps(params)})

    check(infer(image=str(studies / f"{CASE}.nii.gz")), 400, "'image'", code="malformed")
    for refused in ({"model": "nnunet"}, {"model_filename": "x.pt"}, {"bundle_path": "/x"}, {"save_label": True}):
        check(infer(**refused), 400, f"{next(iter(refused))!r}, which is not allowed")
    check(infer(device="quantum"), 400, "'quantum'", "cuda:0")
    response = infer(result_extension=".exe")
    check(response, 400, ".exe", ".nii.gz")
    assert "result_dtype" in response.json()["error"]["hint"], "the allowed keys are listed"
    assert not list(studies.parent.rglob("*evil*"))


def test_training_options(client: TestClient) -> None:
    check(client.post("/train/calf", json={"max_epochs": "x"}), 422, "max_epochs", "'x'", code="invalid_request")
    check(client.post("/train/calf", json={"loss": "magic"}), 422, "magic", "dice_ce")
    check(client.post("/train/calf", json={"epochs": 3}), 422, "epochs", "max_epochs")
    check(client.post("/train/calf", json=[1, 2]), 400, "type list", code="malformed")
    check(client.post("/train/calf", content=b"{", headers={"content-type": "application/json"}), 400, "JSON")
    for key in ("train_ds", "bundle_path", "tracking_uri", "model"):
        check(client.post("/train/calf", json={key: "/etc"}), 400, f"has {key}, which no client may set")
    check(client.post("/train/calf", json={"gpus": "0; rm"}), 400, "gpus")
    check(client.post("/train/calf", json={"max_epochs": 1}, params={"run_sync": True}), 400, "run_sync")


def test_too_few_labels_is_a_conflict(client: TestClient, studies: Path) -> None:
    for path in (studies / "labels" / "final").iterdir():
        path.unlink()
    check(client.post("/train/calf", json={"max_epochs": 1}), 409, "0 labelled")


def test_no_image_at_all(client: TestClient) -> None:
    check(client.post("/infer/calf"), 422, "no image, file or session_id", code="invalid_request")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "0 bytes"), (b"garbage", "not gzip"), (b"\x1f\x8b\x08 torn", "truncated or corrupt")],
)
def test_a_bad_label_keeps_the_old_one(
    client: TestClient, studies: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    final = studies / "labels" / "final" / f"{CASE}.nii.gz"
    before = final.read_bytes()
    check(put_label(client, content), 422, f"label of case {CASE}", words, code="invalid_input")
    check(put_label(client, content, name="../../x.exe"), 422, f"label of case {CASE}")
    check(put_label(client, content, tag="../evil"), 400, "query parameter tag")
    check(put_label(client, content, image="nobody"), 404, "nobody")
    assert final.read_bytes() == before
    assert list((tmp_path / "tmp").iterdir()) == [], "uploads must not stay behind"


def test_a_label_is_taken(client: TestClient, upload: bytes, studies: Path, tmp_path: Path) -> None:
    segments = [{"name": "enhancing tumor", "idx": 1}]
    response = put_label(client, upload, json.dumps({"label_info": segments, "client_id": "me"}))
    assert response.status_code == 200, response.text
    final = studies / "labels" / "final" / f"{CASE}.nii.gz"
    reply = response.json()
    assert (reply["image"], reply["label"], reply["sha256"]) == (CASE, CASE, file_sha256(final))
    assert response.headers["etag"] == f'"{file_sha256(final)}"', "what If-Match takes"
    saved = read_labels(final)
    assert set(np.unique(saved)) == {0, 3}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_missing_part_is_named(client: TestClient, upload: bytes) -> None:
    check(client.put("/datastore/label", params={"image": CASE}), 422, "label", code="invalid_request")
    check(client.put("/datastore/label", files={"label": ("x.nii.gz", upload)}), 422, "image")
    check(client.post("/infer/calf", params={"image": CASE, "output": "bogus"}), 400, "output")


def test_an_uploaded_sequence_is_no_case(client: TestClient, case_folder: Path, tmp_path: Path) -> None:
    content = (case_folder / "t1c.nii.gz").read_bytes()
    response = client.post("/infer/calf", files={"file": ("scan.nii.gz", content)})
    check(response, 422, code="invalid_input")
    assert list((tmp_path / "tmp").iterdir()) == [], "uploads must not stay behind"
    response = client.put("/datastore/image", params={"image": "new"}, files={"file": ("scan.nii.gz", content)})
    check(response, 422, "1 channel(s)", "t2f")


def test_what_nobody_foresaw_is_still_json(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from rarevoxel.inference import Engine

    def broken(self: Engine, image: Path) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Engine, "predict", broken)
    response = client.post("/infer/calf", params={"image": CASE})
    check(response, 500, "unexpected ZeroDivisionError while answering POST /infer/{model}", code="internal")
    assert "secret" not in response.text


def test_the_three_kinds_of_answer(client: TestClient, tmp_path: Path) -> None:
    as_json = client.post("/infer/calf", params={"image": CASE, "output": "json"})
    assert as_json.status_code == 200, as_json.text
    assert as_json.json()["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    as_image = client.post("/infer/calf", params={"image": CASE, "output": "image"})
    (tmp_path / "mask.nii.gz").write_bytes(as_image.content)
    assert read_labels(tmp_path / "mask.nii.gz").any()
    both = client.post("/infer/dice_focal", params={"image": CASE})
    assert both.headers["content-type"].startswith("multipart/form-data")
    assert list((tmp_path / "tmp").iterdir()) == [], "results must not stay behind"


def test_answering_keeps_what_it_wraps() -> None:
    @answering
    def refuse(case: str) -> str:
        """Say no."""
        raise ConflictError(f"{case} is busy", "wait")

    assert refuse.__doc__ == "Say no."
    with pytest.raises(HttpError, match=r"a is busy \(wait\)") as caught:
        refuse("a")
    assert caught.value.status_code == 409
    assert caught.value.detail == {"code": "conflict", "message": "a is busy", "hint": "wait"}
