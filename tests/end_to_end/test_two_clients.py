"""Two clients at once at a real server: nobody gets what another one has."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from rarevoxel.learning.pool import Candidate, CaseScore, ScoreStore
from rarevoxel.server.process import ServerProcess

pytestmark = pytest.mark.server

START_S = 180.0
CASES = [f"case-{i:02d}" for i in range(12)]


@pytest.fixture
def served(
    tmp_path: Path, studies_template: Path, app_toml: str, tiny_weights: Path, main_py: Path
) -> Iterator[tuple[str, Path]]:
    """Twelve copies of a case, scored but for the last one, which cannot be read."""
    studies, app = tmp_path / "studies", tmp_path / "source" / "tiny"
    shutil.copytree(studies_template, studies, symlinks=True)
    display = studies / "phantom-003.nii.gz"
    store = ScoreStore(studies / "scores" / "calf")
    for number, case in enumerate(CASES):
        shutil.copyfile(display, studies / f"{case}.nii.gz")
        lesion = Candidate("ET", 400.0, 200.0, 0.25 + number / 20, 0.5, False)
        error = "t2w is truncated" if case == CASES[-1] else ""
        store.write(CaseScore(case, weights="w", candidates=(lesion,), error=error))
    (app / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, app / "main.py")
    shutil.copyfile(tiny_weights, app / "starter" / "starter.pt")
    (app / "app.toml").write_text(app_toml, encoding="utf-8")
    with ServerProcess(studies, home=tmp_path / "home", log=tmp_path / "log", options=["--app", str(app)]) as process:
        process.wait_until_ready(START_S)
        yield process.url, studies


def ask(url: str, client: str, strategy: str = "rare", **options: Any) -> requests.Response:
    body = {"client_id": client, **options}
    return requests.post(f"{url}/activelearning/{strategy}", json=body, timeout=60)


def test_two_clients_at_once(served: tuple[str, Path]) -> None:
    url, studies = served
    found: dict[str, list[dict[str, Any]]] = {"ada": [], "bob": []}

    def work(client: str) -> None:
        found[client] += [ask(url, client).json() for _ in range(5)]

    threads = [threading.Thread(target=work, args=(client,)) for client in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = [*found["ada"], *found["bob"]]
    assert len({answer["id"] for answer in answers}) == 10, "no case twice within a lease"
    assert {answer["id"] for answer in answers} == set(CASES[1:-1]), "the likeliest ten that can be read"
    for answer in answers:
        assert answer["reasons"][0].startswith("small enhancing component")
        assert "thin size band 0.1-0.5 ml" in answer["reasons"][0]
        assert answer["scored"]
        assert answer["left_out"] == {CASES[-1]: "t2w is truncated"}
    # case-00 is the least likely to hold one, and the two phantoms have no score.
    rest = [ask(url, "eve", strategy).json()["id"] for strategy in ("rare", "random", "uncertainty")]
    assert sorted(rest) == [CASES[0], "phantom-003", "phantom-006"]
    refused = ask(url, "joe")
    assert refused.status_code == 409
    assert "until 20" in refused.json()["error"]["message"]
    submit(url, studies, found["bob"][0]["id"])
    assert requests.post(f"{url}/reload", timeout=60).status_code == 200
    assert ask(url, "joe").status_code == 409, "a submitted case is not free but done, and a reload forgets no lease"
    assert ask(url, "ada").json()["id"] == found["ada"][0]["id"], "its own, the one it has had the longest"
    assert ask(url, "ada", region="brain").status_code == 422


def submit(url: str, studies: Path, case: str) -> None:
    with (studies / "labels" / "final" / "phantom-001.nii.gz").open("rb") as stream:
        query, files = {"image": case, "tag": "final"}, {"label": ("x.nii.gz", stream)}
        response = requests.put(f"{url}/datastore/label", params=query, data={"params": "{}"}, files=files, timeout=60)
    assert response.status_code == 200, response.text
