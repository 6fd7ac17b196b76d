"""`rarevoxel dashboard` before it starts anything, and what it reads out of a browser's events."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel")

from PIL import Image

from rarevoxel import cli
from rarevoxel.server.dashboard import chromium, tour


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "6"], "argument --labels: found 6, expected 0 to 5"),
        (["--epochs", "-1"], "argument --epochs: found -1, expected 0 to 1000"),
        (["--wait-scores", "nan"], "argument --wait-scores: found nan, expected 0 to 3600"),
    ],
)
def test_wrong_numbers_are_wrong_usage(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["dashboard", "--screenshots", str(tmp_path), *options])
    assert words in capsys.readouterr().err


def test_without_a_browser_nothing_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromium.shutil, "which", lambda name: None)
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setattr(tour, "prepare_samples", lambda work: pytest.fail("the browser comes first"))
    assert cli.main(["dashboard", "--screenshots", str(tmp_path / "out")]) == 1
    assert "no Chromium found" in (err := capsys.readouterr().err)
    assert "apt-get install chromium" in err


def test_what_the_browser_noticed_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[dict[str, Any]] = [
        {"pictures": {"dashboard": "x.png"}, "noticed": []},
        {"pictures": {}, "noticed": ["dashboard: 404 for http://x"]},
    ]
    monkeypatch.setattr(tour, "take_pictures", lambda *args, **kwargs: answers.pop(0))
    assert cli.main(["dashboard", "--screenshots", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == {"dashboard": "x.png"}
    assert cli.main(["dashboard", "--screenshots", str(tmp_path)]) == 1
    assert "404 for http://x" in capsys.readouterr().out


def test_a_browser_s_events_become_addresses_and_complaints() -> None:
    def event(method: str, **params: Any) -> dict[str, Any]:
        return {"method": method, "params": params}

    requests, errors = chromium._noticed(
        [
            event("Network.requestWillBeSent", request={"url": "http://127.0.0.1/a"}),
            event("Network.responseReceived", response={"status": 200, "url": "http://127.0.0.1/a"}),
            event("Network.responseReceived", response={"status": 404, "url": "http://127.0.0.1/b"}),
            event("Network.loadingFailed", errorText="net::ERR_NAME_NOT_RESOLVED"),
            event("Network.loadingFailed", errorText="gone", canceled=True),
            event("Log.entryAdded", entry={"level": "error", "text": "refused by the policy"}),
            event("Log.entryAdded", entry={"level": "info", "text": "nothing"}),
            event("Runtime.consoleAPICalled", type="log", args=[]),
            event("Runtime.exceptionThrown", exceptionDetails="boom"),
            event("Page.loadEventFired"),
        ]
    )
    assert requests == ("http://127.0.0.1/a",)
    assert errors == (
        "404 for http://127.0.0.1/b",
        "request failed: net::ERR_NAME_NOT_RESOLVED",
        "refused by the policy",
        "boom",
    )


def test_the_picture_is_cut_to_what_a_document_holds() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 90), "red").save(buffer, format="png")
    found = Image.open(io.BytesIO(tour._top(buffer.getvalue(), 40)))
    assert found.size == (30, 40)
    assert Image.open(io.BytesIO(tour._top(buffer.getvalue(), 400))).size == (30, 90)
