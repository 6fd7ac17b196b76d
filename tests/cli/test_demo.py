from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel")

from rarevoxel import cli
from rarevoxel.cli import demo as command
from rarevoxel.errors import RareVoxelError
from rarevoxel.evaluation import region_dice
from rarevoxel.labels import CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS
from rarevoxel.report import PHANTOM_NOTICE
from rarevoxel.server import demo as loop
from rarevoxel.server import demo_report
from rarevoxel.server.client import Answer
from rarevoxel.server.demo import DemoResult, Scored
from rarevoxel.server.demo_report import write_report
from rarevoxel.statistics import DatasetStatistics, case_statistics
from rarevoxel.volumes import Grid, Volume

REASON = "published: mean region Dice 0.800 against 0.600 of the weights in service, on 1 hold-out case"


def a_result(*, publish: bool = True) -> DemoResult:
    truth = np.zeros((24, 24, 24), np.uint8)
    truth[6:16, 6:16, 6:16] = CLIENT_LABELS[EDEMA]
    truth[8:14, 8:14, 8:14] = CLIENT_LABELS[ENHANCING]
    truth[10:12, 10:12, 10:12] = CLIENT_LABELS[NECROSIS]
    grid = Grid(truth.shape, np.diag([2.0, 2.0, 2.0, 1.0]))

    def scored(shift: int, weights: str) -> Scored:
        labels = np.roll(truth, shift, axis=0)
        answer = Answer(labels, {"WT": 8.0, "TC": 1.7, "ET": 1.6}, 1.25, 1.5, weights)
        return Scored(answer, region_dice(labels, truth))

    cases = ("held-1", "mine-2")
    after = 1 if publish else 3
    statistics = [case_statistics(truth, (2.0, 2.0, 2.0), case) for case in cases]
    dice = dict.fromkeys(("WT", "TC", "ET"), (0.6, 0.8))
    stats: dict[str, Any] = {
        "loss": {"name": "calf_bce_dice", "reason": "too few cases: n=2 (minimum 20)."},
        "split": {"train": ["mine-2"], "holdout": ["held-1"], "note": ""},
        "train": {"loss": [1.0, 0.5]},
        "eval": {"dice": {"2": {"WT": 0.8, "TC": 0.7, "ET": 0.6}}, "best_epoch": 2},
        "options": {"seed": 0},
        "skipped": {},
        "start": "starter.pt",
        "total_epochs": 2,
        "gate": {"publish": publish, "reason": REASON if publish else f"not {REASON}", "cases": {"held-1": dice}},
    }
    return DemoResult(
        corrected="mine-2",
        before={case: scored(3, "starter.pt") for case in cases},
        after={case: scored(after, "calf.pt" if publish else "starter.pt") for case in cases},
        truth=dict.fromkeys(cases, truth),
        images={case: Volume((truth + 1).astype(np.float32), grid) for case in cases},
        changed_ml=3.5,
        stats=stats,
        statistics=DatasetStatistics.from_cases(statistics),
        seconds={"start": 1.0, "train": 2.0, "total": 5.0},
    )


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["demo", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def run_demo(work: Path, *, say: Callable[[str, str], None], **options: Any) -> DemoResult:
        (work / "studies").mkdir()
        calls.append({"work": work, **options})
        say("gate", REASON)
        return a_result()

    monkeypatch.setattr(loop, "run_demo", run_demo)
    return calls


def test_steps_figures_and_files(
    tmp_path: Path, faked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").write_text("keep me")
    assert call("--out", tmp_path, "--epochs", 3, "--seed", 4, "--port", 8123) == 0
    out, err = capsys.readouterr()
    said = " ".join(out.split())
    assert f"gate {REASON}" in said
    assert "Dice mine-2 (corrected, trained on): WT 0.700 -> 0.900, TC 0.500 -> 0.833" in said
    assert "Dice held-1 (hold-out): WT 0.700 -> 0.900" in said
    assert str(tmp_path / "report.html") in said
    assert err == ""
    (asked,) = faked
    assert (asked["epochs"], asked["seed"], asked["port"]) == (3, 4, 8123)
    assert asked["log"] == tmp_path / "server.log"
    assert not asked["work"].exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overview.png", "report.html", "work"]
    assert (tmp_path / "work" / "mine").read_text() == "keep me"


def test_keep_leaves_the_run(tmp_path: Path, faked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--out", tmp_path, "--keep") == 0
    assert faked[0]["work"].is_dir()
    assert str(faked[0]["work"]) in "".join(capsys.readouterr().out.split())


def test_json_is_one_object(tmp_path: Path, faked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--out", tmp_path, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["published"] is True
    assert content["reason"] == REASON
    assert content["cases"]["held-1"]["role"] == "hold-out"
    assert content["cases"]["mine-2"]["after"]["dice"]["WT"] == pytest.approx(0.9)
    assert Path(content["report"]).is_file()


def test_a_failing_step_is_named_and_ends_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_demo(work: Path, *, say: Callable[[str, str], None], **options: Any) -> DemoResult:
        say("serve", "up")
        raise RareVoxelError("the server ended with code 1; its last lines:\nboom")

    monkeypatch.setattr(loop, "run_demo", run_demo)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "error: the demo failed after step 'serve': the server ended with code 1; its last lines:\nboom" in err
    assert f"hint: see {tmp_path / 'server.log'}" in err
    assert list(tmp_path.iterdir()) == []


def test_sigterm_unwinds_like_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[bool] = []

    def run_demo(work: Path, **options: Any) -> DemoResult:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("still running")
        finally:
            cleaned.append(True)

    monkeypatch.setattr(loop, "run_demo", run_demo)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 130
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--epochs", "0"), ("--seed", "-1"), ("--port", "70000")])
def test_numbers_out_of_range_are_wrong_usage(
    tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("--out", tmp_path, option, value)
    assert f"argument {option}: found {value}, expected" in capsys.readouterr().err


def test_the_report_tells_the_whole_run(tmp_path: Path) -> None:
    page, picture = write_report(tmp_path, a_result())
    html = page.read_text(encoding="utf-8")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert PHANTOM_NOTICE in html
    assert 'class="lead good">Published: mean region Dice 0.800' in html
    assert "Chosen: calf_bce_dice, because too few cases: n=2 (minimum 20)." in html
    assert "<td>corrected, trained on</td><td>0.700 → 0.900</td>" in html
    assert html.count('src="data:image/png;base64,') == html.count("<img") == 5
    assert 'alt=""' not in html


@pytest.mark.parametrize(("publish", "title"), [(True, "After training"), (False, "After training (weights kept)")])
def test_pictures_show_before_truth_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: bool, title: str
) -> None:
    drawn: list[tuple[Any, str]] = []

    def draw(image: Any, affine: Any, panels: Any, *, title: str, caption: str) -> bytes:
        drawn.append((panels, caption))
        return b"png"

    monkeypatch.setattr(demo_report, "draw_case", draw)
    result = a_result(publish=publish)
    write_report(tmp_path, result)
    (corrected, caption), (held, _) = drawn
    assert [panel.title for panel in corrected] == ["Proposal", "Correction", title]
    assert [panel.title for panel in held] == ["Before training", "Reference", title]
    assert corrected[0].labels is result.before["mine-2"].answer.labels
    assert corrected[1].labels is result.truth["mine-2"]
    assert corrected[2].labels is result.after["mine-2"].answer.labels
    assert corrected[1].caption == "WT 8.0 ml  TC 1.7 ml  ET 1.7 ml"
    assert caption.endswith("mine-2 itself was trained on.")


def test_a_refusal_is_shown_as_one(tmp_path: Path) -> None:
    result = a_result(publish=False)
    html = write_report(tmp_path, result)[0].read_text(encoding="utf-8")
    assert 'class="lead kept">Not published' in html
    assert "0.700 → 0.700" in html
    assert result.to_dict()["published"] is False
