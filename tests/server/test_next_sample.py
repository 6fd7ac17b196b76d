"""The next sample over HTTP: leases of two clients, options, and everything that can be missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from monailabel.interfaces.utils.app import app_instance

from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.server.guard.config import GuardConfig
from rarevoxel.server.guard.tokens import Role, TokenStore

WAITING = ["phantom-003", "phantom-006"]
LABELLED = ["phantom-001", "phantom-002", "phantom-004", "phantom-005"]


def ask(client: TestClient, strategy: str = "random", status: int = 200, **body: Any) -> dict[str, Any]:
    response = client.post(f"/activelearning/{strategy}", json=body)
    assert response.status_code == status, response.text
    return dict(response.json() if status == 200 else response.json()["error"])


def submit(client: TestClient, studies: Path, case: str, tag: str = "final") -> None:
    content = (studies / "labels" / "final" / "phantom-001.nii.gz").read_bytes()
    query, files = {"image": case, "tag": tag}, {"label": ("x.nii.gz", content)}
    response = client.put("/datastore/label", params=query, data={"params": "{}"}, files=files)
    assert response.status_code == 200, response.text


def test_the_answer(client: TestClient, studies: Path) -> None:
    score = CaseScore("phantom-006", weights="w", entropy={"WT": 0.3, "TC": 0.3, "ET": 0.6})
    ScoreStore(studies / "scores" / "calf").write(score)
    found = ask(client, "uncertainty", client_id="ada")
    assert (found["id"], found["scored"], found["model"]) == ("phantom-006", True, "calf")
    assert found["weight"] == pytest.approx(0.4)
    assert found["terms"] == {"WT": 0.3, "TC": 0.3, "ET": 0.6}
    assert found["reasons"][0].startswith("entropy 0.60 bit in the enhancing tumour")
    assert found["lease_until"].endswith("+00:00")
    assert Path(found["path"]) == studies / "phantom-006.nii.gz"
    noted = client.get("/datastore/", params={"output": "all"}).json()["objects"]["phantom-006"]["image"]["info"]
    assert noted["strategy"]["uncertainty"]["client_id"] == "ada"


def test_no_note_about_an_image_stands_in_place_of_the_answer(client: TestClient) -> None:
    noted = {"info": json.dumps({"reasons": "mine", "lease_until": "never", "hospital": "st-anna"})}
    for case in WAITING:
        assert client.put("/datastore/image/info", params={"image": case}, data=noted).status_code == 200
    found = ask(client, "first")
    assert found["reasons"] == ["first by name"]
    assert found["hospital"] == "st-anna"
    assert found["lease_until"] != "never"


def test_two_clients_a_submission_and_a_reload(client: TestClient, studies: Path) -> None:
    first, second = ask(client, client_id="ada")["id"], ask(client, client_id="bob")["id"]
    assert {first, second} == set(WAITING)
    error = ask(client, client_id="eve", status=409)
    assert error["code"] == "conflict"
    assert "other clients have all 2 cases that wait for a label, the first until 20" in error["message"]
    assert client.post("/reload").status_code == 200
    ask(client, client_id="eve", status=409)
    assert ask(client, client_id="ada")["id"] == first, "its own again, as there is no other"
    submit(client, studies, first, tag="draft")
    ask(client, client_id="eve", status=409)
    submit(client, studies, first)
    assert ask(client, client_id="ada", status=409)["message"].startswith("other clients have the only case")
    submit(client, studies, second)
    assert ask(client, client_id="eve") == {}
    assert app_instance().leases.active() == {}


def test_a_client_without_an_id_is_a_new_one_each_time(client: TestClient) -> None:
    assert {ask(client)["id"] for _ in range(2)} == set(WAITING)
    ask(client, status=409)


def test_the_client_is_who_the_token_says(client: TestClient, tmp_path: Path) -> None:
    from rarevoxel.server.asgi import build

    store = TokenStore(tmp_path / "tokens.json")
    tokens = [store.add(name, Role.ANNOTATE, 1) for name in ("ada", "bob")]
    guarded = TestClient(
        build(GuardConfig(home=str(tmp_path))), base_url="http://127.0.0.1", client=("127.0.0.1", 5000)
    )
    found = []
    for token in tokens:
        headers = {"authorization": f"Bearer {token}"}
        response = guarded.post("/activelearning/first", json={"client_id": "slicer"}, headers=headers)
        assert response.status_code == 200, response.text
        found.append(response.json())
    assert [one["id"] for one in found] == WAITING
    assert all("path" not in one for one in found)
    assert [lease.client for lease in app_instance().leases.active().values()] == ["ada", "bob"]


@pytest.mark.parametrize(
    ("strategy", "body", "status", "words"),
    [
        ("uncertainty", {"region": "brain"}, 422, ["option region: found 'brain', expected one of mean, WT, TC, ET"]),
        ("uncertainty", {"measure": 5}, 422, ["option measure: found 5, expected one of entropy, mutual_information"]),
        ("uncertainty", {"model": "nnunet"}, 422, ["option model: found 'nnunet', expected one of calf, dice_focal"]),
        ("combined", {"rare": "much"}, 422, ["option rare: found 'much', expected a number from 0 to 1000"]),
        ("combined", {"uncertainty": 0, "rare": 0, "diversity": 0}, 422, ["found 0 for all"]),
        ("balanced", {"kurtosis_weight": -1}, 422, ["option kurtosis_weight: found -1, expected a number from 0"]),
        ("random", {"lease_minutes": 0}, 422, ["option lease_minutes: found 0, expected a number from 1 to 1440"]),
        ("random", {"region": "ET"}, 400, ["'region'", "not allowed"]),
        ("oldest", {}, 404, ["no strategy 'oldest'", "uncertainty"]),
    ],
)
def test_wrong_options(client: TestClient, strategy: str, body: Any, status: int, words: list[str]) -> None:
    error = ask(client, strategy, status, **body)
    for word in words:
        assert word in error["message"]
    assert app_instance().leases.active() == {}


def test_a_pool_with_unreadable_images(client: TestClient, studies: Path) -> None:
    store = ScoreStore(studies / "scores" / "calf")
    store.write(CaseScore("phantom-003", error=f"{studies}/sequences/phantom-003/t2w.nii.gz: is truncated"))
    for strategy in ("random", "combined"):
        found = ask(client, strategy, client_id="ada")
        assert found["id"] == "phantom-006"
        assert list(found["left_out"]) == ["phantom-003"]
        assert "is truncated" in found["left_out"]["phantom-003"]
        assert str(studies) not in json.dumps(found["left_out"])
    store.write(CaseScore("phantom-006", error="is empty"))
    assert ask(client, "first").keys() == {"left_out"}
    assert app_instance().next_sample({"strategy": "first"}) == {}, "the host's own endpoint asks for an id"


@pytest.mark.parametrize("strategy", ["uncertainty", "rare", "diversity", "combined", "balanced"])
def test_a_model_without_weights(client: TestClient, app_folder: Path, strategy: str) -> None:
    (app_folder / "starter" / "starter.pt").unlink()
    found = ask(client, strategy)
    assert (found["id"], found["scored"]) == ("phantom-003", False)
    assert found["reasons"] == ["model calf has no weights yet, so no case is scored: in order of name"]


def test_an_empty_pool_and_an_empty_folder(client: TestClient, studies: Path) -> None:
    for case in WAITING:
        submit(client, studies, case)
    strategies = list(client.get("/info/").json()["strategies"])
    for strategy in strategies:
        assert ask(client, strategy) == {}
    for name in [*WAITING, *LABELLED]:
        (studies / f"{name}.nii.gz").unlink()
    shutil.rmtree(studies / "labels")
    client.post("/reload")
    for strategy in strategies:
        assert ask(client, strategy) == {}


def test_review_over_http(client: TestClient, studies: Path) -> None:
    datastore = app_instance().datastore()
    datastore.update_label_info("phantom-002", "final", {"dice": {"calf": {"WT": 0.2}}})
    datastore.update_label_info("phantom-004", "final", {"dice": {"calf": {"WT": 0.5}}})
    assert [ask(client, "review", client_id="ada")["id"] for _ in range(2)] == ["phantom-002", "phantom-004"]
    submit(client, studies, "phantom-002")
    # It has a new version, about which nothing is known yet.
    found = ask(client, "review", client_id="ada")
    assert found["id"] == "phantom-004"
    assert found["reasons"][1].startswith("sent back before")
