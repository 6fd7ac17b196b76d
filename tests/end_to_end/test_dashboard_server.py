"""The dashboard of a real server, over HTTP and in a real browser: effort in the receipt, pages that stay at home."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.server.dashboard.chromium import chromium, find_chromium
from rarevoxel.server.process import ServerProcess
from rarevoxel.volumes import read_labels, read_volume, write_labels

pytestmark = pytest.mark.server

START_S = 180.0
CASE, OTHER, TORN = "phantom-003", "phantom-006", "phantom-007"


@dataclass(frozen=True)
class Served:
    """A running server and what was answered when a corrected proposal was submitted to it."""

    url: str
    studies: Path
    home: Path
    receipt: dict[str, Any]

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=120)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, app_toml: str, tiny_weights: Path, main_py: Path
) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("dashboard")
    studies, app = root / "studies", root / "source" / "tiny"
    shutil.copytree(studies_template, studies, symlinks=True)
    (studies / f"{TORN}.nii.gz").write_bytes(b"torn")
    (app / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, app / "main.py")
    shutil.copyfile(tiny_weights, app / "starter" / "starter.pt")
    (app / "app.toml").write_text(app_toml, encoding="utf-8")
    ScoreStore(studies / "scores" / "calf").write(
        CaseScore(OTHER, entropy={"WT": 0.25, "TC": 0.5, "ET": 0.75}, missed_ml={"ET": 0.3}, confidence={"ET": 0.5})
    )
    with ServerProcess(
        studies, home=root / "home", log=root / "log", options=["--app", str(app), "--conf", "scoring", "off"]
    ) as process:
        process.wait_until_ready(START_S)
        receipt = correct(process.url, studies, root)
        yield Served(process.url, studies, root / "home", receipt)


def correct(url: str, studies: Path, root: Path) -> dict[str, Any]:
    """Have a case segmented, add a box to the proposal, and submit it."""
    answer = requests.post(f"{url}/infer/calf", params={"image": CASE, "output": "image"}, timeout=120)
    assert answer.status_code == 200, answer.text
    proposal = read_labels(studies / "proposals" / f"{CASE}.nii.gz").astype(np.uint8)
    labels = proposal.copy()
    labels[18:22, 20:24, 20:24] = 3
    write_labels(root / "up.nii.gz", labels, read_volume(studies / f"{CASE}.nii.gz").grid.affine)
    with (root / "up.nii.gz").open("rb") as stream:
        reply = requests.put(
            f"{url}/datastore/label", params={"image": CASE}, files={"label": ("x.nii.gz", stream)}, timeout=120
        )
    assert reply.status_code == 200, reply.text
    receipt: dict[str, Any] = reply.json()
    assert receipt["effort"]["changed"] == int(np.count_nonzero(labels != proposal))
    return receipt


def settled(served: Served) -> str:
    """The page once every label has been measured."""
    deadline = time.monotonic() + 120
    while "being measured" in (html := served.get("/dashboard").text) and time.monotonic() < deadline:
        time.sleep(0.5)
    return html


def test_the_effort_is_in_the_receipt_and_in_the_history(served: Served) -> None:
    effort = served.receipt["effort"]
    assert effort["status"] == "measured"
    assert effort["seconds"] > 0
    assert set(effort["regions"]) == {"WT", "TC", "ET"}
    assert effort["proposal"]["weights"]
    query = {"label": CASE, "tag": "final"}
    (version,) = requests.get(f"{served.url}/datastore/label/versions", params=query, timeout=60).json()["versions"]
    assert version["effort"] == effort
    assert str(served.studies) not in json.dumps(effort)


def test_the_page_holds_every_section_and_no_path(served: Served) -> None:
    html = settled(served)
    for section in ("queue", "models", "learning", "sizes", "effort", "findings"):
        assert f'<section id="{section}">' in html
    assert "being measured" not in html
    assert "1 of 5 labels" in html
    assert "0.50 bit" in html
    assert "starter" in html
    for path in (served.studies, served.home):
        assert str(path) not in html
    reply = served.get("/dashboard")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'; style-src 'sha256-" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"
    assert served.get("/dashboard/").status_code == 200


def test_pictures_come_as_png_and_a_torn_image_as_words(served: Served) -> None:
    for kind in ("picture", "thumbnail"):
        reply = served.get(f"/dashboard/cases/{CASE}/{kind}")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
        assert reply.content.startswith(b"\x89PNG")
        torn = served.get(f"/dashboard/cases/{TORN}/{kind}")
        assert (torn.status_code, torn.headers["content-type"]) == (200, "image/svg+xml")
        assert "cannot be read" in torn.text
    page = served.get(f"/dashboard/cases/{CASE}")
    assert "outlines of proposal and label" in page.text
    assert str(served.studies) not in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dashboard?queue=0", 400),
        ("/dashboard?page=1", 400),
        ("/dashboard?queue=999", 200),
        ("/dashboard/cases/nobody", 404),
        ("/dashboard/cases/nobody/picture", 404),
        ("/dashboard/cases/a%20b", 400),
        ("/dashboard/runs/calf/none", 404),
        ("/dashboard/runs/nothing/none", 404),
    ],
)
def test_wrong_addresses_are_told(served: Served, path: str, status: int) -> None:
    reply = served.get(path)
    assert reply.status_code == status, reply.text[:300]
    if status != 200:
        assert {"code", "message", "hint"} <= set(reply.json()["error"])


def test_a_browser_has_nothing_to_complain_about(served: Served) -> None:
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine; install it (apt-get install chromium) or set RAREVOXEL_CHROMIUM")
    with chromium() as browser:
        for page in ("/dashboard", f"/dashboard/cases/{CASE}", f"/dashboard/cases/{OTHER}"):
            for width, height in ((1280, 900), (390, 844)):
                visit = browser.visit(f"{served.url}{page}", width, height)
                assert visit.errors == (), (page, width)
                assert visit.scroll_width == width, "nothing sticks out"
                assert visit.png.startswith(b"\x89PNG")
                assert visit.height > height
                outside = [one for one in visit.requests if not one.startswith((served.url, "data:"))]
                assert outside == []
                assert any("/dashboard/cases/" in one for one in visit.requests), "there are pictures"
