"""`rarevoxel simulate`, from its arguments to its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comparison.in_process import InProcess
from rarevoxel.cli import main
from rarevoxel.comparison import workers as pools
from rarevoxel.learning.simulate import run, summary

TINY = [
    "--strategies", "combined", "--losses", "auto", "--seeds", "0", "--start", "2", "--per-round", "1", "--rounds", "1",
    "--steps", "2", "--cases", "4", "--test", "1", "--size", "26,32,26", "--spacing", "6", "--network", "4,4,4",
    "--patch", "16", "--pretraining", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run; read only."""
    out = tmp_path_factory.mktemp("simulate") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "ProcessPoolExecutor", InProcess)
        patch.setattr(summary, "RESAMPLES", 20)
        patch.setattr("os.fsync", lambda descriptor: None)
        options = ["--markdown", str(out / "page.md"), "--figures", str(out / "figures")]
        assert main(["simulate", "multifocal", "--out", str(out), *TINY, *options]) == 0
    return out


def test_a_study_from_nothing(simulated: Path) -> None:
    found = json.loads((simulated / "summary.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == ["random + dice_ce", "combined + auto"]
    (one,) = found["sets"]
    assert (one["set"], one["labelled"], one["test_cases"], one["phantoms"]) == ("multifocal", [2, 3], 1, True)
    # Two losses share no round; each has a first one and a second one.
    assert len(list((simulated / "rounds").iterdir())) == 4
    assert (simulated / "page.md").read_text() == (simulated / "tables.md").read_text()
    assert (simulated / "figures" / "simulate-multifocal.png").stat().st_size > 10_000
    page = (simulated / "report.html").read_text()
    assert "combined + auto" in page
    assert "synthetic phantoms" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_second_time_nothing_is_run(
    simulated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(run, "run_round", None)
    monkeypatch.setattr(summary, "RESAMPLES", 20)
    monkeypatch.setattr("rarevoxel.report.simulation.write_simulation", lambda path, summary: path)
    assert main(["simulate", "multifocal", "--out", str(simulated), *TINY, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["baseline"] == "random + dice_ce"
    assert told["sets"][0]["arms"][1]["curves"]["hours"][0] > 0


def test_a_round_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*args: Any) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(run, "run_round", fails)
    assert main(["simulate", "multifocal", "--out", str(tmp_path), *TINY]) == 1
    told = capsys.readouterr().err
    assert "failed: multifocal,  + dice_ce, seed 0, round 0: ValueError: odd" not in told
    assert "multifocal, random + dice_ce, seed 0, round 0: ValueError: odd" in told
    assert "nothing can be compared" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["tinny"], "unknown regime or folder 'tinny'"),
        (["multifocal", "--strategies", "randm"], "unknown strategy 'randm'"),
        (["multifocal", "--strategies", "review"], "unknown strategy 'review'"),
        (["multifocal", "--strategies", ","], "expected names separated by commas"),
        (["multifocal", "--losses", "dise_ce"], "dise_ce"),
        (["multifocal", "--seeds", "0,x"], "found '0,x', expected whole numbers separated by commas"),
        (["multifocal", "--seeds=-1"], "found '-1', expected seeds from 0 to 2000000"),
        (["multifocal", "--rounds", "0"], "found '0', expected a whole number from 1"),
        (["multifocal", "--noise", "2"], "found '2', expected a number from 0 to 1"),
        (["multifocal", "--samples", "guess"], "unknown samples 'guess'"),
        (["multifocal", "--size", "10,10"], "must be three whole numbers"),
        (["multifocal", "--patch", "17"], r"patch \(17\) must be a multiple"),
        (["multifocal", "--learning-rate", "0"], "learning_rate"),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["simulate", *options, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert message.replace("\\", "") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_few_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "multifocal", "--out", str(tmp_path), *TINY, "--rounds", "3"]) == 1
    assert "4 cases to choose from, expected at least 5 (2 + 3 rounds of 1)" in capsys.readouterr().err
