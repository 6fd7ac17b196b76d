"""Faults 32 to 43 on a site in a bad state: torn index, torn stats, spoiled weights, a full disk, and strangers."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from monailabel.client.client import MONAILabelClient, MONAILabelClientException

from faults.sent import decode, encode
from faults.served import Served, check_refusal, refusing, serving
from rarevoxel.server.guard.tokens import Role, TokenStore

pytestmark = pytest.mark.server

CASE, OTHER = "phantom-001", "phantom-003"
ROLES = {role.name.lower(): role for role in Role}
NAME = "Doe^John_19600101.nii.gz"


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, tiny_app: Path, tokens: dict[str, str]
) -> Iterator[Served]:
    """A server with tokens over a site that a power cut and a stranger have visited; two cases have labels."""
    root = tmp_path_factory.mktemp("spoiled-site") / "site"
    studies = Path(shutil.copytree(studies_template, root / "studies", symlinks=True))
    for label in sorted((studies / "labels" / "final").iterdir())[2:]:
        label.unlink()
    (studies / "datastore_v2.json").write_text('{"objects": {"phantom-001": {"image": {"in')
    models = root / "home" / "tiny" / "model"
    (models / "calf").mkdir(parents=True)
    (models / "calf.pt").write_bytes(b"PK\x03\x04 torn")
    (models / "dice_focal.pt").write_bytes(pickle.dumps(Bomb(root / "person" / "executed")))
    (models / "calf" / "train_stats.json").write_text('{"epoch": 3, "best_me')
    store = TokenStore(root / "home" / "tokens.json")
    tokens.update({name: store.add(name, role, 90) for name, role in ROLES.items()})
    with serving(root, studies, tiny_app, headers={"Authorization": f"Bearer {tokens['admin']}"}) as server:
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.fault(33)
def test_a_torn_index_is_rebuilt(site: Served) -> None:
    info = site.info()
    assert info["datastore"]["total"] == 6
    assert info["datastore"]["completed"] == 2
    kept = list(site.studies.glob("datastore_v2.json.*.bad"))
    assert [path.read_text()[:12] for path in kept] == ['{"objects": ']
    health = site.ask("GET", "/health").json()
    assert health["status"] == "warning"
    assert str(site.root) not in json.dumps(health)


@pytest.mark.fault(37)
@pytest.mark.parametrize("model", ["calf", "dice_focal"])
def test_spoiled_weights_are_not_served_and_nothing_is_executed(site: Served, model: str) -> None:
    response = site.infer(CASE, model=model)
    assert response.status_code == 200, response.text
    assert response.json()["model"]["weights"] == "starter.pt"
    assert not (site.root / "person" / "executed").exists()
    site.info()


@pytest.mark.fault(37)
def test_weights_that_a_client_sends_are_refused(site: Served) -> None:
    with refusing(site):
        response = site.ask("PUT", "/model/calf", files={"file": ("calf.pt", pickle.dumps(Bomb(site.root / "x")))})
        check_refusal(response, 403, "rollback", server=site)
        check_refusal(site.ask("DELETE", "/model/calf"), 403, server=site)


@pytest.mark.fault(38)
def test_torn_stats_are_a_warning(site: Served) -> None:
    stats = site.info()["train_stats"]["calf"]
    assert "epoch" not in stats or stats.get("warning") or stats.get("note"), stats
    assert any("unreadable" in str(value) or "torn" in str(value) or "read" in str(value) for value in stats.values())


@pytest.mark.fault(39)
def test_two_labels_are_too_few_to_train(site: Served) -> None:
    with refusing(site):
        check_refusal(site.ask("POST", "/train/calf", json={}), 409, "2", server=site)


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("model", "options", "status"),
    [("nnunet", {}, 404), *[("calf", {"max_epochs": value}, 422) for value in (-1, 10**9, "x", 1.5, True, [])]],
)
def test_impossible_trainings(site: Served, model: str, options: dict[str, object], status: int) -> None:
    with refusing(site):
        check_refusal(site.ask("POST", f"/train/{model}", json=options), status, server=site)


@pytest.mark.fault(42)
def test_no_wrong_and_expired_tokens(site: Served, tokens: dict[str, str]) -> None:
    store = site.home / "tokens.json"
    content = json.loads(store.read_text())
    old = TokenStore(store).add("old", Role.ADMIN, 1)
    entries = json.loads(store.read_text())
    entries["tokens"][-1]["expires"] = 1.0
    store.write_text(json.dumps(entries))
    with refusing(site):
        for authorization in ("", "Bearer", "Bearer nonsense", f"Basic {tokens['admin']}", f"Bearer {old}"):
            response = site.ask("GET", "/info/", headers={"Authorization": authorization})
            check_refusal(response, 401, server=site)
            assert response.headers["WWW-Authenticate"] == "Bearer"
    store.write_text(json.dumps(content))
    assert all(token not in store.read_text() for token in tokens.values())
    assert store.stat().st_mode & 0o077 == 0


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/info/", "view"),
        ("POST", "/activelearning/first", "annotate"),
        ("PUT", f"/datastore/label?image={CASE}", "annotate"),
        ("POST", "/train/nnunet", "train"),
        ("DELETE", "/datastore/image?id=nobody", "admin"),
        ("GET", "/logs/", "admin"),
    ],
)
def test_roles(site: Served, tokens: dict[str, str], method: str, path: str, role: str) -> None:
    for name, has in ROLES.items():
        response = site.ask(method, path, headers=bearer(tokens[name]))
        if has < ROLES[role]:
            check_refusal(response, 403, role, server=site)
        else:
            assert response.status_code not in (401, 403), response.text


@pytest.mark.fault(42)
def test_foreign_pages_and_names(site: Served) -> None:
    with refusing(site):
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
            check_refusal(site.ask("GET", "/info/", headers=headers), 403, server=site)
        preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
        response = site.ask("OPTIONS", "/datastore/label", headers=preflight)
        check_refusal(response, 403, server=site)
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.fault(42)
def test_the_log_in_of_3d_slicer(site: Served, tokens: dict[str, str], tmp_path: Path) -> None:
    client = MONAILabelClient(site.process.url, tmpdir=str(tmp_path))
    assert client.auth_enabled()
    with pytest.raises(MONAILabelClientException, match="Status: 401"):
        client.info()
    client.update_auth(client.auth_token("anybody", tokens["annotate"]))
    assert client.auth_valid_token()
    assert set(client.info()["models"]) == {"calf", "dice_focal"}


@pytest.mark.fault(43)
def test_names_of_people_stay_out_of_logs_replies_and_folders(site: Served) -> None:
    data = site.label(CASE).read_bytes()
    upload = {"file": (NAME, data)}
    replies = [
        site.put_label(CASE, data, name=NAME),
        site.put_label(CASE, b"garbage", name=NAME),
        site.put_label(NAME, data, name=NAME),
        site.infer(NAME),
        site.ask("POST", "/infer/calf", files=upload),
        site.ask("PUT", "/datastore/image", params={"image": NAME}, files=upload),
        site.ask("PUT", "/session/", files={"files": (NAME, data)}),
        site.ask("GET", f"/session/{NAME}"),
    ]
    assert all(response.status_code < 500 for response in replies)
    text = site.logs() + "".join(response.text for response in replies) + site.ask("GET", "/logs/").text
    for word in ("Doe", "John", "19600101"):
        assert word not in text, next(line for line in text.splitlines() if word in line)
    assert not [path for path in (*site.studies.rglob("*"), *site.home.rglob("*")) if "Doe" in path.name]


@pytest.mark.fault(34)
def test_a_second_server_on_the_folder(site: Served, tiny_app: Path) -> None:
    command = [sys.executable, "-m", "rarevoxel", "serve", str(site.studies), "--app", str(tiny_app)]
    command += ["--home", str(site.root / "home"), "--port", str(site.process.port + 1)]
    with refusing(site):
        second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 1, second.stdout + second.stderr
    assert f"process {site.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.fault(32)
def test_a_full_disk(site: Served) -> None:
    """The kernel lets the server write no file beyond a limit, which goes from nothing to enough."""
    array, affine = decode(site.label(CASE).read_bytes())
    statuses = []
    for limit in (0, 200, 600, 1000, 1500, 2500, 4000, 6000, 9000, 20000):
        array = np.roll(array, 1, axis=2)
        label = encode(array, affine)
        old = resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE)
        before = site.kept()
        resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (limit, old[1]))
        try:
            response = site.put_label(CASE, label)
        finally:
            resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, old)
        statuses.append(response.status_code)
        if response.status_code != 200:
            check_refusal(response, 507, server=site, code="storage")
            after = site.kept()
            assert before.items() <= after.items()
            # What may be new is the old label's own first version: it had no history yet.
            new = {sha256 for name, sha256 in after.items() if name not in before and name.endswith(".nii.gz")}
            assert new <= {before[f"studies/labels/final/{CASE}.nii.gz"]}
        else:
            assert site.label(CASE).read_bytes() == label
        assert site.litter() == []
    assert statuses[0] == 507
    assert statuses[-1] == 200
    assert site.put_label(CASE, encode(np.roll(array, 1, axis=2), affine)).status_code == 200


@pytest.mark.fault(35)
def test_the_folder_vanishes_and_comes_back(site: Served) -> None:
    label = site.label(CASE).read_bytes()
    away = site.studies.with_name("away")
    before = site.kept()
    site.studies.rename(away)
    try:
        assert site.info()["datastore"]["total"] == 6
        assert site.ask("GET", "/health").json()["status"] == "warning"
        response = site.put_label(OTHER, label)
        check_refusal(response, 503, server=site, code="unavailable")
        assert int(response.headers["Retry-After"]) > 0
        made = [path.relative_to(site.studies) for path in site.studies.rglob("*")] if site.studies.exists() else []
        assert made == []
    finally:
        if site.studies.exists():
            site.studies.rmdir()
        away.rename(site.studies)
    assert site.kept() == before
    assert site.put_label(OTHER, label).status_code == 200


@pytest.mark.fault(40)
def test_a_second_training_has_to_wait(site: Served, tokens: dict[str, str]) -> None:
    """The last test of this server: it starts a training."""
    label = site.label(CASE).read_bytes()
    for case in ("phantom-004", "phantom-005"):
        assert site.put_label(case, label).status_code == 200
    options = {"max_epochs": 500, "loss": "dice"}
    started = site.ask("POST", "/train/calf", json=options, headers=bearer(tokens["train"]))
    assert started.status_code == 200, started.text
    try:
        check_refusal(site.ask("POST", "/train/calf", json=options), 429, "under way", server=site)
        check_refusal(site.ask("POST", "/train/dice_focal", json={}), 429, "under way", server=site)
        assert requests.get(f"{site.process.url}/health", timeout=10).status_code == 200
    finally:
        assert site.ask("DELETE", "/train/").status_code == 200
