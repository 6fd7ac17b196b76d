"""The page of a run: the verdict in words, numbers and a picture, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rarevoxel.lineage import CaseRecord, Lineage, WeightFile
from rarevoxel.report import render_page, run_page, write_run_report
from rarevoxel.report.gate import draw_paired

CASES = {
    f"case-{i}": {"WT": [0.8, 0.85], "TC": [0.7, 0.6 + 0.05 * i], "ET": [0.2 * i, 0.1 * i + 0.2]} for i in range(4)
}
LINEAGE = Lineage(
    model="calf",
    version="20260101T000000",
    created="2026-01-01T00:00:00.000+00:00",
    sha256="a" * 64,
    start=WeightFile("starter.pt", "b" * 64),
    incumbent=WeightFile("starter", "b" * 64),
    cases=(
        CaseRecord("case-0", "p", "holdout", {}, "c" * 64, 2),
        CaseRecord("case-9", "q", "train", {}, "d" * 64, None, True),
    ),
    skipped={"case-7": "<script>alert(1)</script>"},
    findings=({"case": "case-0", "message": "3 islands"},),
    filter={"dropped": [{"id": "case-8", "reason": "too small"}]},
    options={"seed": 0},
    loss={"name": "calf", "reason": "sizes are skewed"},
    gate={
        "publish": True,
        "reason": "published: mean region Dice 0.6 against 0.5",
        "cases": CASES,
        "n": 4,
        "test": "one-sided paired t",
        "difference": 0.1,
        "lower_bound": -0.01,
        "regions": {"WT": 0.05},
    },
    history={"train": {"loss": [0.9, 0.5]}, "eval": {"dice": {"2": {"WT": 0.5}}, "best_epoch": 2}},
    seconds=12.0,
)


def test_the_page_tells_the_verdict() -> None:
    html = render_page(run_page(LINEAGE))
    for words in (
        "Published: mean region Dice 0.6 against 0.5.",
        "one-sided paired t",
        "+0.100",
        "-0.010",
        "0.700 → 0.650",
        "starter (bbbbbbbbbbbb)",
        "declared empty",
        "too small",
        "3 islands",
        "rarevoxel reproduce calf --version 20260101T000000 --studies DIR",
        "2 in 12 s; epoch 2 was taken, the last: no patient selects",
    ):
        assert words in html, words
    assert "<script>" not in html
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html), "nothing is loaded from elsewhere"


def test_first_weights_and_no_scores_have_a_page_too() -> None:
    alone = {case: {region: [None, new] for region, (_, new) in entry.items()} for case, entry in CASES.items()}
    page = run_page(replace(LINEAGE, incumbent=None, start=None, gate={**LINEAGE.gate, "cases": alone}))
    assert "nothing in service" in render_page(page)
    page = run_page(replace(LINEAGE, history={}, gate={"publish": False, "reason": "not published: no numbers"}))
    assert (page.verdict, page.lead) == ("kept", "Not published: no numbers.")
    assert "no numbers" in render_page(page)


def test_the_picture_is_the_same_every_time() -> None:
    png = draw_paired(CASES)
    assert png.startswith(b"\x89PNG")
    assert png == draw_paired(CASES)


def test_the_page_lies_beside_the_lineage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert write_run_report(tmp_path) is None
    assert "lineage cannot be read" in caplog.text
    (tmp_path / "lineage.json").write_text(json.dumps(LINEAGE.to_dict()))
    assert write_run_report(tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").stat().st_size < 300_000
