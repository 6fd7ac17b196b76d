"""The server behind a reverse proxy: the way docs/operations.md sets it up, with a stand-in for the proxy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from monailabel.client.client import MONAILabelClient

from faults.proxy import proxied
from faults.served import Served, check_refusal, serving
from rarevoxel.server.guard.tokens import Role, TokenStore
from rarevoxel.volumes import file_sha256

pytestmark = [pytest.mark.server, pytest.mark.fault(42)]

NAME, CASE = "labels.clinic.example", "phantom-001"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def behind(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, tiny_app: Path, token: dict[str, str]
) -> Iterator[tuple[Served, str]]:
    root = tmp_path_factory.mktemp("behind") / "site"
    studies = Path(shutil.copytree(studies_template, root / "studies", symlinks=True))
    token["annotate"] = TokenStore(root / "home" / "tokens.json").add("anna", Role.ANNOTATE, 90)
    options = ("--behind-proxy", "--allow-host", NAME)
    with serving(root, studies, tiny_app, options) as server, proxied(server.process.url) as url:
        yield server, url


def test_a_token_is_needed_and_enough(behind: tuple[Served, str], token: dict[str, str]) -> None:
    server, url = behind
    with requests.Session() as session:
        session.headers["Host"] = NAME
        check_refusal(session.get(f"{url}/info/", timeout=60), 401, server=server)
        session.headers["Authorization"] = f"Bearer {token['annotate']}"
        assert session.get(f"{url}/info/", timeout=60).json()["datastore"]["total"] == 6
        answer = session.post(f"{url}/infer/calf", params={"image": CASE, "output": "json"}, timeout=60)
        assert answer.status_code == 200, answer.text
        label = {"label": ("x.nii.gz", server.label(CASE).read_bytes())}
        saved = session.put(f"{url}/datastore/label", params={"image": "phantom-003"}, files=label, timeout=60)
        assert saved.json()["sha256"] == file_sha256(server.label("phantom-003"))
        assert "anna" in (server.studies / "history" / "phantom-003" / "final" / "000001.json").read_text()


def test_another_name_is_refused(behind: tuple[Served, str], token: dict[str, str]) -> None:
    server, url = behind
    headers = {"Host": "evil.example", "Authorization": f"Bearer {token['annotate']}"}
    check_refusal(requests.get(f"{url}/info/", headers=headers, timeout=60), 403, server=server)


def test_the_client_of_3d_slicer_works_through_it(
    behind: tuple[Served, str], token: dict[str, str], tmp_path: Path
) -> None:
    _, url = behind
    client = MONAILabelClient(url, tmpdir=str(tmp_path))
    assert client.auth_enabled()
    client.update_auth(client.auth_token("anna", token["annotate"]))
    file, reply = client.infer("calf", CASE, {"result_extension": ".nrrd"})
    assert Path(file).stat().st_size > 0
    assert reply["model"]["weights"] == "starter.pt"
