"""`rarevoxel evaluate`, from its arguments to its files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.scene import TableEngine, label, write_scene
from rarevoxel.cli import main
from rarevoxel.errors import InputError
from rarevoxel.inference import engine as engine_module

Answers = Callable[[Mapping[str, Any]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Return a function that puts an engine of given masks into the place of the real one."""

    def put(masks: Mapping[str, Any]) -> None:
        monkeypatch.setattr(engine_module, "Engine", lambda config, paths: TableEngine(masks))

    return put


@pytest.fixture
def scene(tmp_path: Path, answers: Answers) -> Path:
    """Three labelled cases, the second without its core, the third with nothing predicted, and one without a label."""
    studies = write_scene(tmp_path / "S", {"a": label(), "b": label(), "c": label(), "d": None})
    answers({"a": label(), "b": np.where(label(), 2, 0).astype(np.uint8), "c": 0 * label()})
    return studies


def test_the_table_names_every_case_and_the_mean(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "starter", str(scene)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{'a':<32}WT 1.000  TC 1.000  ET 1.000"
    assert lines[1] == f"{'b':<32}WT 1.000  TC 0.000  ET 0.000"
    assert lines[-1].startswith("mean region Dice 0.444 over 3 cases, 95 % interval 0.")
    assert any(line.startswith("HD95 median mm") for line in lines)


def test_json_and_csv_hold_every_number(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "new folder" / "cases.csv"
    assert main(["evaluate", "starter", str(scene), "--json", "--csv", str(table)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["mean"] == pytest.approx(4 / 9)
    assert list(record["cases"]) == ["a", "b", "c"]
    wt = record["cases"]["c"]["regions"]["WT"]
    assert (wt["truth_ml"], wt["predicted_ml"], wt["lesion_recall"]) == (pytest.approx(4.096), 0, 0)
    assert record["summary"]["WT"]["bands"][">=2 ml"]["found"] == 2
    assert record["unlabelled"] == 1
    rows = list(csv.DictReader(table.open()))
    assert [(row["case"], row["region"], row["dice"]) for row in rows[3:6]] == [
        ("b", "WT", "1.0"), ("b", "TC", "0.0"), ("b", "ET", "0.0")
    ]  # fmt: skip


def test_a_region_the_label_cannot_hold_is_left_out(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "starter", str(scene), "--regions", "WT", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["regions"] == list(record["summary"]) == ["WT"]
    assert record["mean"] == pytest.approx(2 / 3)
    assert main(["evaluate", "starter", str(scene), "--regions", "ET", "WT"]) == 0
    assert capsys.readouterr().out.startswith(f"{'a':<32}WT 1.000  ET 1.000\n")


def test_the_page_shows_the_worst_case_first(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rarevoxel.report.png.DPI", 20)
    page = tmp_path / "page.html"
    assert main(["evaluate", "starter", str(scene), "--html", str(page), "--worst", "2"]) == 0
    html = page.read_text(encoding="utf-8")
    worst = [title for title in re.findall(r"<h2>(.*?)</h2>", html) if title.startswith("Worst")]
    assert worst == ["Worst case 1: c, mean Dice 0.000", "Worst case 2: b, mean Dice 0.333"]
    assert "a lesion of 4.1 ml missed as a whole at" in html
    assert html.count('src="data:image/png;base64,') == 4 + 2


def test_a_refused_case_is_named_and_the_others_are_scored(
    scene: Path, tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    answers({"a": InputError("t1n: is torn", "copy it"), "b": label(), "c": label()})
    assert main(["evaluate", "starter", str(scene)]) == 1
    captured = capsys.readouterr()
    assert "mean region Dice 1.000 over 2 cases" in captured.out
    assert "refused a: t1n: is torn (copy it)\n" in captured.err
    answers({name: InputError("t1n: is torn") for name in "abc"})
    assert main(["evaluate", "starter", str(scene), "--html", str(page), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["mean"] is None
    html = page.read_text(encoding="utf-8")
    assert "0 cases of 0 patients scored, 3 refused" in html
    assert "<td>b</td><td>t1n: is torn</td>" in html


def test_a_folder_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = write_scene(tmp_path / "S", {"a": None})
    assert main(["evaluate", "starter", str(studies)]) == 1
    assert "no labelled case of a studies folder\nhint: prepare one with its labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worst", "-1"], "argument --worst: found '-1', expected a whole number of at least 0"),
        (["--worst", "few"], "argument --worst: found 'few'"),
        (["--regions", "XT"], "invalid choice: 'XT'"),
    ],
)
def test_wrong_usage(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "starter", "S", *options])
    assert message in capsys.readouterr().err


def test_the_real_engine_gives_all_it_takes(
    studies: Path, app_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "starter", str(studies), "--app", str(app_folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["scored"] == 4
    assert record["summary"]["WT"]["ece"]["value"] > 0
    assert record["model"]["weights"] == "starter.pt"
